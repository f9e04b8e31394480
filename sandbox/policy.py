"""Policy: what a runner may use. Frozen; made by the config, carried to template and runner as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits of one runner.

    profile           `none` (debugging) or `process`; containment adds `strict`.
    timeout_ms        wall time of a job, kept by the master: its whole tree is killed. 0 for none.
    soft_timeout_ms   wall time after which `TimeLimit` is raised in the processor. 0 for none.
    result_bytes      largest encoded result or progress value.
    """

    profile: str = "process"
    timeout_ms: int = 0
    soft_timeout_ms: int = 0
    result_bytes: int = 16 * 1024 * 1024

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Policy:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
