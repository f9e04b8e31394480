"""The face of Oxherd: what users import, and the entrance of the command.

    from oxherd import Job, Queue, exponential, processor

Names are fetched when they are asked for, so that a processor's module, imported in the template, loads the
package `sandbox` and nothing else: no Redis client, no JSON library, no command line.

PyPI has another package named `supervisor`, the process manager. pip installs one over the other without a
word, and uninstalling either breaks the rest. So whoever comes in through here is told, before anything else,
when the packages found are not ours.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.batch import ItemFailed
    from sandbox.breaker import Breaker
    from sandbox.errors import (
        AskFailed,
        BreakerOpen,
        Cancelled,
        Delayed,
        RateLimited,
        RetryAfter,
        SagaFailed,
        TimeLimit,
        Unrecoverable,
        WaitingChildren,
    )
    from sandbox.hooks import HookCall
    from sandbox.job import Job
    from sandbox.processors import processor
    from sandbox.saga import Saga
    from supervisor.client import Deduplication, FlowJob, Queue, batches, exponential, fixed, flows
    from supervisor.client.listening import listen
    from supervisor.errors import (
        ConfigError,
        DataTooLarge,
        InvalidJob,
        InvalidSchedule,
        JobError,
        JobFailed,
        JobNotFound,
        JobNotInState,
        LockLost,
        OxherdError,
        QueueFull,
        RedisError,
        RedisRefused,
        RedisUnavailable,
        ResultTimeout,
        UsageError,
    )

_HOMES = {
    "sandbox.processors": ("processor",),
    "sandbox.job": ("Job",),
    "sandbox.hooks": ("HookCall",),
    "sandbox.batch": ("ItemFailed",),
    "sandbox.breaker": ("Breaker",),
    "sandbox.saga": ("Saga",),
    "sandbox.errors": (
        "AskFailed",
        "BreakerOpen",
        "Cancelled",
        "Delayed",
        "RateLimited",
        "RetryAfter",
        "SagaFailed",
        "TimeLimit",
        "Unrecoverable",
        "WaitingChildren",
    ),
    "supervisor.client": ("Deduplication", "FlowJob", "Queue", "batches", "exponential", "fixed", "flows"),
    "supervisor.client.listening": ("listen",),
    "supervisor.errors": (
        "ConfigError",
        "DataTooLarge",
        "InvalidJob",
        "InvalidSchedule",
        "JobError",
        "JobFailed",
        "JobNotFound",
        "JobNotInState",
        "LockLost",
        "OxherdError",
        "QueueFull",
        "RedisError",
        "RedisRefused",
        "RedisUnavailable",
        "ResultTimeout",
        "UsageError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 (by what they are for)
    "processor",
    "Job",
    "HookCall",
    "Breaker",
    "Saga",
    "AskFailed",
    "BreakerOpen",
    "Cancelled",
    "Delayed",
    "ItemFailed",
    "RateLimited",
    "RetryAfter",
    "SagaFailed",
    "TimeLimit",
    "Unrecoverable",
    "WaitingChildren",
    "Queue",
    "Deduplication",
    "FlowJob",
    "batches",
    "flows",
    "exponential",
    "fixed",
    "listen",
    "ConfigError",
    "DataTooLarge",
    "InvalidJob",
    "InvalidSchedule",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobNotInState",
    "LockLost",
    "OxherdError",
    "QueueFull",
    "RedisError",
    "RedisRefused",
    "RedisUnavailable",
    "ResultTimeout",
    "UsageError",
    "main",
]

_PACKAGES = ("supervisor", "sandbox")
_REMEDY = """\
Nothing was started. In this order:
  python -m pip uninstall supervisor
  python -m pip install --force-reinstall .        # in the clone of oxherd
To run both programs, give each a virtual environment of its own."""


class WrongPackage(ImportError):
    """A package of the same name is installed in the place of one of ours."""


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'oxherd' has no attribute {name!r}")
    package = home.partition(".")[0]
    _check_is_ours(package)
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def main() -> int:
    """The command `oxherd`; returns the exit status."""
    problem = _trouble_with_packages()
    if problem is not None:
        print(f"oxherd: {problem}", file=sys.stderr)
        return 2
    # At the top it would load the command line wherever a processor says `from oxherd import processor`.
    from supervisor.cli import main as cli

    return cli()


def _check_is_ours(package: str) -> None:
    """Raise `WrongPackage` unless `package` is ours."""
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise WrongPackage(f"our package {package!r} is not there, though oxherd is.\n{_REMEDY}") from None
    if getattr(found, "OXHERD_PACKAGE", None) != "oxherd":
        where = getattr(found, "__file__", None) or "a directory without __init__.py"
        raise WrongPackage(f"the package {package!r} at {where} is not the one of Oxherd.\n{_REMEDY}")


def _trouble_with_packages() -> str | None:
    """What is wrong with the two packages, in sentences; None when all is well."""
    try:
        for package in _PACKAGES:
            _check_is_ours(package)
    except WrongPackage as error:
        return str(error)
    theirs = _find_supervisor(sys.path)
    if theirs is None:
        return None
    return (
        f"this environment also has Supervisor, the process manager, by {theirs}. Both install a "
        f"package named 'supervisor', and each overwrites files of the other.\n{_REMEDY}"
    )


def _find_supervisor(path: Sequence[str]) -> str | None:
    """The metadata directory of the distribution `supervisor` on `path`.

    Looked for by its name: `importlib.metadata` does the same, but its import costs every command 20 ms.
    """
    for directory in path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue  # a zip file, or not there
        for name in names:
            if name.lower().startswith("supervisor-") and name.endswith((".dist-info", ".egg-info")):
                return os.path.join(directory, name)
    return None


if __name__ == "__main__":
    sys.exit(main())
