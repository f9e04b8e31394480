"""`oxherd run`: turn flags and config into a plan, and give it to the master."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from supervisor.cli.command import Common, command
from supervisor.cli.display import Tally, burst_listener, say_summary
from supervisor.cli.redis_choice import chosen_redis
from supervisor.config.load import DEFAULT, Loaded, flags
from supervisor.config.model import Config
from supervisor.errors import ConfigError, UsageError
from supervisor.master.notify import Listener, Nobody
from supervisor.master.plan import Plan, Target, secrets_of
from supervisor.master.spawning import started
from supervisor.observe import log
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address

_OF_EVERY_COMMAND: Final = ("--redis", "--prefix")
_OPTIONS: Final = {flag.parameter: flag for flag in flags() if flag.name not in _OF_EVERY_COMMAND}


def _option(parameter: str) -> click.Option:
    flag = _OPTIONS[parameter]
    metavar = "|".join(flag.choices) or flag.metavar or "true|false"
    return click.Option(
        [flag.name, parameter], metavar=metavar, help=f"{flag.help} (default: {flag.default})"
    )


@command(
    "run",
    exits="0 stopped as asked, 1 with --burst: a job failed for good or a queue is paused or broken, "
    "2 wrong usage, config or processor, 3 Redis unreachable",
    example="oxherd run thumbnails:resize --queue thumbnails --concurrency 2 --timeout 60s",
)
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="QUEUE",
    help="serve this queue only; needed for a plain function; may be repeated (default: all)",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=1024),
    metavar="N",
    help="slots of each queue: jobs that run at once, each in a process of its own (default: what decorator "
    "or config say, else one for each usable CPU)",
)
@click.option(
    "--dead-letter",
    metavar="QUEUE",
    help="the queue that gets a copy of each job that fails for good (default: what the config says)",
)
@click.option("--burst", is_flag=True, help="stop when nothing is left to do")
@click.option(
    "--inline", is_flag=True, help="one job at a time in this very process, for breakpoint(); no isolation"
)
def run(common: Common, targets: tuple[str, ...], **rest: Any) -> int:
    """Run the processors of each TARGET: `module` for what it decorates, or `module:function`.

    Without a TARGET the config says which queue is run by what. Nothing is fetched before every processor
    could be imported. TERM or Ctrl-C stops: running jobs may end within the stop deadline, those cut off go
    back to the front of their queue; a second one does not wait for them.
    """
    if sys.platform != "linux":
        raise UsageError(
            "oxherd run needs Linux; here, run it in a container, like "
            "docker run --rm -v .:/app -v THE_CLONE:/oxherd -w /app -e OXHERD_REDIS_URL python:3.12 "
            "sh -c 'pip install /oxherd && oxherd run TARGET'. Every other command works here too"
        )
    try:
        os.getcwd()  # where TARGETs are looked for first
    except FileNotFoundError:
        raise UsageError(
            "the working directory was removed, so no TARGET can be found; nothing was started. "
            "Change to one that is there"
        ) from None
    given = settings_flags({name: rest.pop(name) for name in list(rest) if name in _OPTIONS})
    return _run(common, lambda: common.load(given), targets, **rest)


def settings_options() -> list[click.Option]:
    """A flag for each setting, but for those that every command has."""
    return [_option(parameter) for parameter in _OPTIONS]


def settings_flags(asked: dict[str, Any]) -> dict[str, str]:
    """Those of them that were given, by the name of the flag."""
    return {_OPTIONS[name].name: value for name, value in asked.items() if value is not None}


run.settings = settings_options()
run.params += run.settings


def _run(
    common: Common,
    again: Callable[[], Loaded],
    names: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int | None,
    dead_letter: str | None,
    burst: bool,
    inline: bool,
) -> int:
    loaded = again()
    config = loaded.config
    for queue in queues:
        QueueKeys(queue, config.redis.prefix)  # refuses a name that no queue can have
    if dead_letter is not None:
        QueueKeys(dead_letter, config.redis.prefix)
    if concurrency is not None and config.pool.slots is not None:
        raise UsageError(
            "--concurrency gives each queue slots of its own, and "
            f"{_told(loaded.origin('pool', 'slots'))} lets them share {config.pool.slots}; "
            "give one of them. Nothing was started"
        )
    _targets(config, names, queues)  # refuses a plan without any
    log.configure(config.log.format, config.log.level)
    with chosen_redis(config, long_lived=True) as choice:
        address = Address.parse(choice.url).for_prefix(config.redis.prefix)

        def planned(config: Config, listener: Listener) -> Plan:
            return Plan(
                address=address,
                config=config,
                targets=_targets(config, names, queues),
                only_queues=tuple(dict.fromkeys(queues)),
                concurrency=concurrency,
                dead_letter=dead_letter,
                burst=burst,
                listener=listener,
                again=lambda: planned(again().config, listener),
            )

        def plan(listener: Listener) -> Plan:
            return planned(config, listener)

        if inline:
            return _run_inline(plan, as_json_line=common.json)
        with started(secrets_of(address, config)) as process:
            # At the top it would load all of the master before a mistake in the flags could be told. The
            # template starts meanwhile, which takes as long.
            from supervisor.master.main import run_master

            if not burst:
                return run_master(plan(Nobody()), process)
            # A picture of all slots says more than a line for each job; who names a level gets that level.
            level = "warning" if loaded.origin("log", "level") == DEFAULT else config.log.level
            with burst_listener(as_json=common.json, log_level=level) as listener:
                return run_master(plan(listener), process)


def _told(origin: str) -> str:
    return "--pool" if origin.startswith("flag") else f"[pool] slots (from {origin})"


def _run_inline(plan: Callable[[Listener], Plan], *, as_json_line: bool) -> int:
    # At the top it would load the processors' half of the program for every run that has runners.
    from supervisor.cli.inline import run_inline

    tally = Tally()
    made = plan(tally)
    status = run_inline(made, tally)
    if made.burst:
        say_summary(tally, as_json_line=as_json_line)
    return status


def _targets(config: Config, names: tuple[str, ...], queues: tuple[str, ...]) -> tuple[Target, ...]:
    found = tuple(targets_of(config, names, queues))
    if not found:
        raise ConfigError(
            "there is nothing to run: name a TARGET (module, or module:function with --queue), "
            "or give the config a [queue.NAME] with a target"
        )
    return found


def targets_of(config: Config, names: tuple[str, ...], queues: tuple[str, ...]) -> Iterator[Target]:
    """The targets of the command line, else those of the config; each with the queue it serves by default.

    A plain function serves each of `queues`.
    """
    configured = [
        Target(name=name, queue=own)
        for own, settings in config.queues.items()
        for name in settings.target
        if not queues or own in queues
    ]
    if not names:
        yield from configured
    for name in dict.fromkeys(names):
        of_config = [target for target in configured if target.name == name]
        if queues:
            served = queues if ":" in name else queues[:1]  # what a module decorates has its own queue
            yield from (Target(name=name, queue=queue) for queue in dict.fromkeys(served))
        elif of_config:
            yield from of_config
        else:
            yield Target(name=name)
