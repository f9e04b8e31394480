"""`oxherd ctl`: tell a running master what to do, through its control socket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import click

from supervisor.cli import masters
from supervisor.cli.command import Common, OxherdCommand, command
from supervisor.cli.render import as_json, clean, out
from supervisor.errors import UsageError

VERBS: Final = ("quiet", "resume", "scale", "reload", "recycle", "stop", "snapshot")
OF_A_QUEUE: Final = frozenset({"quiet", "resume", "scale", "recycle", "snapshot"})
AS_LONG_AS_IT_TAKES: Final = frozenset({"reload"})  # an import may take a minute
LESS: Final = "less:"  # how `-1` gets past the reader of options, which takes it for one


class _Ctl(OxherdCommand):
    """One whose words may be negative numbers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [re.sub(r"^-(?=\d+$)", LESS, each) for each in args])


@command(
    "ctl",
    exits="0 done; 1 the master refused, or there is none; 2 wrong usage or config, or several masters and "
    "no --pid",
    example="oxherd ctl scale +2 thumbnails",
    cls=_Ctl,
)
@click.argument("verb", type=click.Choice(VERBS), metavar="|".join(VERBS))
@click.argument("rest", metavar="[+N|-N] [QUEUE]", nargs=-1)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="which master, when several run here")
def ctl(common: Common, verb: str, rest: tuple[str, ...], pid: int | None) -> int:
    """Tell a master that runs on this host what to do; without QUEUE, for all its queues.

    quiet fetches nothing more, and running jobs go on; resume fetches again. scale +2 adds slots, scale -1
    takes them away when their job has ended; of a queue that shares slots it is the pool that has more or
    fewer. reload reads config and code again: it returns when new jobs go to the new code, or says why the
    old goes on. recycle replaces every runner by a new one behind its job. stop does what TERM does.
    snapshot prints all the master knows of itself, as JSON.

    A master is asked by its own user or by root. It is found in OXHERD_RUNTIME_DIR, else /run/oxherd,
    XDG_RUNTIME_DIR/oxherd and the state directory.
    """
    args = _arguments(verb, rest)
    master = masters.the_one(common, pid)
    done = masters.ask(master, verb, within_s=None if verb in AS_LONG_AS_IT_TAKES else 30.0, **args)
    if common.json or verb == "snapshot":
        out(as_json(done if verb == "snapshot" else {"pid": master.pid, **done}))
    else:
        for line in _sentence(verb, master.pid, done).split("\n"):
            out(clean(line))
    return 0


def _arguments(verb: str, rest: tuple[str, ...]) -> dict[str, Any]:
    words = list(rest)
    args: dict[str, Any] = {}
    if verb == "scale":
        args["by"] = _number(words.pop(0) if words else "")
    if words and verb in OF_A_QUEUE:
        args["queue"] = words.pop(0)
    if words:
        raise UsageError(f"{verb} takes no {words[0]!r}; nothing was changed")
    return args


def _number(text: str) -> int:
    text = text.replace(LESS, "-", 1)
    if text[:1] not in ("+", "-") or not (text[1:].isascii() and text[1:].isdecimal()):
        said = f"not {text!r}" if text else "and it is missing"
        raise UsageError(f"scale takes slots more or less, like +2 or -1, {said}; nothing was changed")
    return int(text)


def _sentence(verb: str, pid: int, done: dict[str, Any]) -> str:
    names = ", ".join(each if isinstance(each, str) else each["name"] for each in done.get("queues", []))
    match verb:
        case "quiet":
            return f"{pid} fetches nothing more from {names}"
        case "resume":
            return f"{pid} fetches from {names} again"
        case "scale":
            return "\n".join(scaled(done))
        case "recycle":
            return f"{done['runners']} runners are replaced, each when it has no job"
        case "stop":
            return f"{pid} is stopping; {done['running']} jobs run"
    return _reloaded(done)


def scaled(done: dict[str, Any]) -> Iterator[str]:
    """What has how many slots now."""
    for each in done["queues"]:
        yield f"{each['name']} has {each['slots']} slots"
    if "pool" in done:
        yield f"the pool has {done['pool']['slots']} slots"


def _reloaded(done: dict[str, Any]) -> str:
    lines = [f"generation {done['generation']}: new jobs go to the new code ({done['took_ms']} ms)"]
    told = {"changed": "changed", "came": "served from now on", "gone": "served no more"}
    lines += [f"{words}: {', '.join(done[key])}" for key, words in told.items() if done[key]]
    if done["restart"]:
        lines.append(f"as before, because only a restart changes it: {', '.join(done['restart'])}")
    return "\n".join(lines)
