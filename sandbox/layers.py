"""A layer of isolation, and how a step becomes one: Applied, or Refused(reason)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """The step holds; read back where the kernel tells."""

    name: str

    def to_json(self) -> list[str | bool]:
        return [self.name, True, ""]


@dataclass(frozen=True, slots=True)
class Refused:
    """The step does not hold, and why."""

    name: str
    reason: str

    def to_json(self) -> list[str | bool]:
        return [self.name, False, self.reason]


Layer = Applied | Refused


def apply(name: str, step: Callable[[], None]) -> Layer:
    try:
        step()
    except OSError as error:
        return Refused(name, error.strerror or str(error))
    return Applied(name)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise OSError(0, f"{what} did not take effect")
