"""A layer of isolation: how a step becomes one, Applied or Refused with a reason; and which are required."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sandbox.policy import Policy


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
    return applied(name)


def applied(name: str) -> Applied:
    """The one of that name, made before any runner is."""
    return _APPLIED.get(name) or Applied(name)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise OSError(0, f"{what} did not take effect")


# --- what is needed ---------------------------------------------------------------------------------------

# Those that the template puts in force, before any code of the user's; the others are each runner's own.
OF_TEMPLATE = frozenset(
    {
        "oom_score_adj", "batch_scheduling", "no_core", "no_new_privs", "not_dumpable", "own_user",
        "user_namespace", "mount_namespace", "ipc_namespace", "network_namespace", "pid_namespace",
        "file_rules", "signals_scoped", "abstract_sockets_scoped", "tcp_denied", "no_capabilities",
        "system_calls_denied", "sockets_denied",
    }
)  # fmt: skip
OF_RUNNER = frozenset(
    {
        "own_session", "signals_reset", "stdin_null", "descriptors_closed", "subreaper", "parent_death",
        "own_directory", "own_files", "own_pid_namespace",
    }
)  # fmt: skip
OF_MASTER = frozenset({"cgroup", "cgroup_cpu"})
NAMES = OF_TEMPLATE | OF_RUNNER | OF_MASTER

_APPLIED = {name: Applied(name) for name in NAMES}

# Without these `strict` is not what it is called. Not among them: what another of them denies as well
# (namespaces, TCP), and what is for the good of the host alone.
_STRICT = (
    "no_core", "no_new_privs", "not_dumpable", "file_rules", "no_capabilities", "system_calls_denied",
    "sockets_denied", "own_session", "signals_reset", "stdin_null", "descriptors_closed", "subreaper",
    "parent_death", "own_directory", "own_files",
)  # fmt: skip


def required(policy: Policy) -> tuple[str, ...]:
    """The layers without which nothing is run under this policy."""
    names = list(policy.require)
    if policy.profile == "strict":
        # Signals to others of the same user: either of two layers keeps them in.
        names += [*_STRICT, "own_pid_namespace" if policy.pid_namespace else "signals_scoped"]
    if policy.uid:
        names.append("own_user")
    return tuple(dict.fromkeys(names))


def missing(policy: Policy, in_force: Collection[str]) -> list[str]:
    """Those required that are not among `in_force`."""
    return [name for name in required(policy) if name not in in_force]


def refusal(policy: Policy, layers: Iterable[Layer], whose: frozenset[str]) -> str | None:
    """A sentence that says which of `whose` layers are required and not in force; None for none."""
    reasons = {each.name: each.reason for each in layers if isinstance(each, Refused)}
    applied = [each.name for each in layers if isinstance(each, Applied)]
    lacking = [name for name in missing(policy, applied) if name in whose]
    if not lacking:
        return None
    told = ", ".join(f"{name} ({reasons.get(name, f'not part of {policy.profile}')})" for name in lacking)
    return f"profile {policy.profile} requires what is not in force here: {told}"
