"""The layers of isolation as the master sees them: what a policy requires, and what is told of the rest.

Which layers there are, and which each profile requires, is said in sandbox/layers.py, because a template
refuses by the same list before it imports anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandbox.layers import NAMES
from sandbox.layers import missing as _missing
from sandbox.policy import OF_CGROUP, Limits, Policy
from supervisor.errors import ConfigError
from supervisor.observe.log import get

log = get("layers")


def refuse_unknown(require: Iterable[str]) -> None:
    """Raises `ConfigError` for a layer that is none."""
    for name in require:
        if name not in NAMES:
            raise ConfigError(
                f"[policy] require: there is no layer {name!r}; there are {', '.join(sorted(NAMES))}. "
                "Nothing was started"
            )


def missing(policy: Policy, layers: Iterable[Sequence[object]]) -> list[str]:
    """The names of layers that the policy requires and that are not in force; of READY's `layers`."""
    return _missing(policy, [str(name) for name, applied, _ in layers if applied])


def unkept(limits: Iterable[Limits], no_cpu: str) -> list[str]:
    """Those of the limits that nobody keeps here. `no_cpu`: why the CPU is not shared among runners."""
    if not no_cpu:
        return []
    every = list(limits)
    return [name for name in OF_CGROUP if any(getattr(each, name) for each in every)]


class Degraded:
    """Tells of layers that are not in force, once each for a profile."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, profile: str, layers: Iterable[Sequence[object]]) -> None:
        new = {str(name): str(reason) for name, applied, reason in layers if not applied}
        new = {name: reason for name, reason in new.items() if (profile, name) not in self._told}
        if new:
            self._told |= {(profile, name) for name in new}
            log.warning("isolation.degraded", profile=profile, layers=new)
