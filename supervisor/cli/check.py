"""`oxherd check TARGET`: import it in a throw-away template and runner, and tell what became of it.

The template and the runner are started as `oxherd run` starts them, with the same environment, working
directory and policy; Redis is not needed and nothing is asked of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, out, pairs, table
from supervisor.cli.run import targets_of
from supervisor.config.units import format_duration, format_size
from supervisor.errors import ConfigError, UsageError
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address

if TYPE_CHECKING:  # at the top it would load the master for `oxherd check --help`
    from sandbox.policy import Limits
    from supervisor.master.plan import Plan
    from supervisor.master.settings import QueueSettings
    from supervisor.master.template import ProcessorFacts
    from supervisor.master.trial import Trial

NOWHERE: Final = "redis://127.0.0.1"  # a plan has an address; nobody connects to this one
SLOW_IMPORT_MS: Final = 5_000
MOST_LINES: Final = 5  # of what the import printed
MOST_NAMES: Final = 3


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found. `trials` has one for each profile that is needed."""

    processors: Sequence[ProcessorFacts]
    settings: Mapping[str, QueueSettings]
    profiles: Mapping[str, str]  # of each queue
    trials: Mapping[str, Trial]
    printed: Sequence[str]


@command(
    "check",
    exits="0 it can be run, 2 it cannot (its import fails, or the host does not give the isolation it needs) "
    "or wrong usage or config",
    example="oxherd check thumbnails:resize --queue thumbnails",
)
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="QUEUE",
    help="check for this queue only; needed for a plain function; may be repeated (default: all)",
)
@click.option(
    "--profile",
    type=click.Choice(("none", "process", "strict")),
    metavar="none|process|strict",
    help="under this profile (default: what the config says, else process)",
)
def check(common: Common, targets: tuple[str, ...], queues: tuple[str, ...], profile: str | None) -> int:
    """Import each TARGET as `oxherd run` would, start one runner, and throw both away.

    Tells which processors there are, how long the start takes, how much memory template and runner hold,
    which layers of isolation are in force, and what may go wrong. Needs no Redis and takes no job. Without a
    TARGET those of the config are checked.
    """
    if sys.platform != "linux":
        raise UsageError("oxherd check needs Linux, as runners do; every other command works here too")
    plan = _plan(common, targets, queues, profile)
    checked = _check(plan)
    if common.json:
        for record in _records(checked):
            out(as_json(record))
    else:
        out("\n\n".join(_text(checked)))
    return 0


def _plan(common: Common, names: tuple[str, ...], queues: tuple[str, ...], profile: str | None) -> Plan:
    from supervisor.master.plan import Plan  # at the top it would load the transport for `--help`

    config = common.load({} if profile is None else {"--profile": profile}).config
    for queue in queues:
        QueueKeys(queue, config.redis.prefix)  # refuses a name that no queue can have
    targets = tuple(targets_of(config, names, queues))
    if not targets:
        raise ConfigError(
            "there is nothing to check: name a TARGET (module, or module:function with --queue), "
            "or give the config a [queue.NAME] with a target"
        )
    return Plan(
        address=Address.parse(NOWHERE),
        config=config,
        targets=targets,
        only_queues=tuple(dict.fromkeys(queues)),
    )


def _check(plan: Plan) -> Checked:
    """Import under what the config says; and again under what the decorators ask for, if that is stricter."""
    # At the top these would load all of the master for `--help`.
    from supervisor.master.settings import policy_of, profile_of, settings_by_queue
    from supervisor.master.spawning import scrubbed
    from supervisor.master.trial import run_trial

    policy, redis = plan.config.policy, plan.config.redis
    env = scrubbed(os.environ, [redis.url or ""])
    printed: list[str] = []
    first = run_trial(
        plan.targets, policy_of(policy), env, on_line=lambda _stream, text: printed.append(text)
    )
    settings = {each.name: each for each in settings_by_queue(plan, first.processors)}
    profiles = {queue: profile_of(plan, queue, first.processors) for queue in settings}
    trials = {
        profile: first
        if profile == policy.profile
        else run_trial(plan.targets, policy_of(policy, profile), env)
        for profile in dict.fromkeys(profiles.values())
    }
    return Checked(
        processors=[each for each in first.processors if each.queue in settings],
        settings=settings,
        profiles=profiles,
        trials=trials,
        printed=printed,
    )


# --- for people -------------------------------------------------------------------------------------------


def _text(checked: Checked) -> Iterator[str]:
    yield table(
        ["processor", "queue", "jobs", "at once", "limits"],
        (
            [
                clean(each.target),
                clean(each.queue),
                _jobs(each),
                str(checked.settings[each.queue].concurrency),
                _limits(checked.settings[each.queue].limits[each.name]),
            ]
            for each in checked.processors
        ),
        right=[3],
    )
    for profile, trial in checked.trials.items():
        seen = trial.seen
        in_force = [each.name for each in trial.layers if each.in_force]
        own = "" if seen.private_bytes is None else f"; each runner {_mb(seen.private_bytes)} of its own"
        pss = "" if seen.pss_bytes is None else f" (PSS {_mb(seen.pss_bytes)} while it is the only one)"
        yield pairs(
            [
                ("import", f"{trial.import_ms:.0f} ms from the start of a process"),
                (
                    "runner",
                    f"ready {trial.fork_ms:.1f} ms after it was asked for, first line of a job at "
                    f"{trial.first_line_ms:.1f} ms",
                ),
                ("memory", f"template {_mb(trial.template_bytes)}{own}{pss}"),
                ("profile", f"{profile}: {len(in_force)} of {len(trial.layers)} layers in force"),
            ]
        )
    if warnings := list(_warnings(checked)):
        yield "\n".join(f"warning: {clean(text)}" for text in warnings)


def _jobs(processor: ProcessorFacts) -> str:
    """Which jobs of its queue it takes, and what their data must be."""
    typed = f" ({processor.data_type})" if processor.data_type else ""
    return clean(f"{'any' if processor.name is None else processor.name}{typed}")


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _limits(limits: Limits) -> str:
    shown = []
    for name, value in asdict(limits).items():
        if not value:
            continue
        if name.endswith("_ms"):
            shown.append(f"{name.removesuffix('_ms')} {format_duration(value)}")
        elif name.endswith("_bytes"):
            shown.append(f"{name.removesuffix('_bytes')} {format_size(value)}")
        else:
            shown.append(f"{name} {value}")
    return ", ".join(shown).replace("_", " ") or "none"


def _is_endless(checked: Checked, processor: ProcessorFacts) -> bool:
    limits = checked.settings[processor.queue].limits[processor.name]
    return not (limits.timeout_ms or limits.silence_ms or limits.cpu_ms)


def _warnings(checked: Checked) -> Iterator[str]:
    endless = [each.target for each in checked.processors if _is_endless(checked, each)]
    if endless:
        shown = ", ".join(endless[:MOST_NAMES]) + (", ..." if len(endless) > MOST_NAMES else "")
        yield f"no timeout: a job that hangs keeps its slot until somebody cancels it ({shown})"
    for each in checked.processors:
        if each.custom_backoff:
            yield (
                f"{each.target} has a backoff of its own: it is asked only for jobs whose backoff is of the "
                "type custom"
            )
    for profile, trial in checked.trials.items():
        if trial.threads:
            yield (
                f"each runner imports for itself, in {trial.fork_ms:.0f} ms, and shares no memory with the "
                f"others: {trial.threads}"
            )
        for layer in trial.layers:
            if not layer.in_force:
                yield f"{profile}: {layer.name} is not in force: {layer.reason}; see oxherd doctor"
    slowest_ms = max(trial.import_ms for trial in checked.trials.values())
    if slowest_ms > SLOW_IMPORT_MS:
        yield f"the import takes {slowest_ms / 1000:.1f} s, and so does each start and each new template"
    for line in checked.printed[:MOST_LINES]:
        yield f"the import prints: {line}"
    if len(checked.printed) > MOST_LINES:
        yield f"the import prints {len(checked.printed) - MOST_LINES} lines more"


# --- for programs -----------------------------------------------------------------------------------------


def _records(checked: Checked) -> Iterator[dict[str, Any]]:
    for each in checked.processors:
        settings = checked.settings[each.queue]
        yield {
            "what": "processor",
            "target": each.target,
            "queue": each.queue,
            "name": each.name,
            "data_type": each.data_type,
            "concurrency": settings.concurrency,
            "profile": checked.profiles[each.queue],
            "fresh": settings.fresh,
            "per_runner": settings.per_runner,
            "limits": settings.limits[each.name].to_json(),
        }
    for profile, trial in checked.trials.items():
        yield {
            "what": "trial",
            "profile": profile,
            "import_ms": round(trial.import_ms, 1),
            "fork_ms": round(trial.fork_ms, 2),
            "first_line_ms": round(trial.first_line_ms, 2),
            "template_bytes": trial.template_bytes,
            "threads": trial.threads or None,
            "runner_pss_bytes": trial.seen.pss_bytes,
            "runner_private_bytes": trial.seen.private_bytes,
            "layers": [each.name for each in trial.layers if each.in_force],
            "missing": [each.name for each in trial.layers if not each.in_force],
        }
    for text in _warnings(checked):
        yield {"what": "warning", "text": text}
