"""`oxherd doctor`: what isolation this host gives, and why not more.

Everything told here was tried: for each profile a template and a runner are started as `oxherd run` starts
them, and the runner reads its layers back. What a layer is for is said in docs/explain/sandbox.md.
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor import __version__
from supervisor.cli.command import Common, command
from supervisor.cli.remedies import remedy_of
from supervisor.cli.render import as_json, clean, out, table
from supervisor.config.model import Config
from supervisor.errors import EmbeddedServerError, SandboxError, UsageError

if TYPE_CHECKING:  # at the top it would load the master for `oxherd doctor --help`
    from sandbox.policy import Policy
    from supervisor.master.trial import Trial

PROFILES: Final = ("none", "process", "strict")
WIDEST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One profile, tried. `why_not` is empty when it can be had."""

    profile: str
    policy: Policy
    trial: Trial | None
    why_not: str

    @property
    def layers(self) -> dict[str, tuple[bool, str]]:
        return (
            {}
            if self.trial is None
            else {each.name: (each.in_force, each.reason) for each in self.trial.layers}
        )


@command(
    "doctor",
    exits="0 the profile can be had on this host, 1 it cannot, 2 wrong usage or config",
    example="oxherd doctor --profile strict",
)
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    metavar="|".join(PROFILES),
    help="the one that the exit status is about (default: what the config says, else process)",
)
def doctor(common: Common, profile: str | None) -> int:
    """Tell what isolation this host gives, and how to get what is missing.

    For each profile a runner is started, which reports the layers that are in force: read back from the
    kernel, not assumed. Nothing is asked of Redis, and no job is run. The config counts: its user, its paths
    and the layers that it requires.
    """
    if sys.platform != "linux":
        raise UsageError("oxherd doctor needs Linux, as runners do; every other command works here too")
    config = common.load({} if profile is None else {"--profile": profile}).config
    findings = [_tried(config, each) for each in PROFILES]
    asked = next(each for each in findings if each.profile == config.policy.profile)
    if common.json:
        for record in _records(findings, config):
            out(as_json(record))
    else:
        out("\n\n".join(_text(findings, asked, config)))
    return 1 if asked.why_not else 0


def _tried(config: Config, profile: str) -> Finding:
    # At the top these would load all of the master for `--help`.
    from supervisor.master.settings import policy_of
    from supervisor.master.template import scrubbed
    from supervisor.master.trial import missing, run_trial

    policy = policy_of(config.policy, profile)
    try:
        trial = run_trial([], policy, scrubbed(os.environ, [config.redis.url or ""]))
    except SandboxError as error:
        return Finding(profile=profile, policy=policy, trial=None, why_not=str(error).partition("\n")[0])
    lacking = missing(trial.layers, policy)
    why_not = f"{', '.join(lacking)} not in force" if lacking else ""
    return Finding(profile=profile, policy=policy, trial=trial, why_not=why_not)


# --- for people -------------------------------------------------------------------------------------------


def _text(findings: Sequence[Finding], asked: Finding, config: Config) -> Iterator[str]:
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    yield f"oxherd {__version__}, Python {platform.python_version()}, Linux {platform.release()}, {_who()}"
    yield _layers(findings)
    for each in findings:
        if not each.why_not:
            continue
        yield _paragraph(f"{each.profile} cannot be had:", each.why_not, width)
    if rows := list(_missing(findings)):
        yield "not in force\n" + "\n".join(_paragraph(f"  {name}", text, width, 4) for name, text in rows)
    facts = [
        ("limits", limits_mode()),
        *((f"secrets, {each.profile}", _secrets(each)) for each in findings),
        ("embedded Redis", _server(config)),
    ]
    wide = max(len(name) for name, _ in facts) + 2
    yield "\n".join(
        textwrap.fill(clean(text), width, initial_indent=name.ljust(wide), subsequent_indent=" " * wide)
        for name, text in facts
    )
    verdict = "cannot be had on this host" if asked.why_not else "can be had on this host"
    yield f"{asked.profile} {verdict}."


def _paragraph(name: str, text: str, width: int, indent: int = 2) -> str:
    lines = [f"{name}: {text}" if not indent else name]
    for line in text.splitlines():
        lines.append(
            textwrap.fill(clean(line), width, initial_indent=" " * indent, subsequent_indent=" " * indent)
        )
    return "\n".join(lines)


def _layers(findings: Sequence[Finding]) -> str:
    names = dict.fromkeys(name for each in findings for name in each.layers)
    return table(
        ["layer", *(each.profile for each in findings)],
        ([name, *(_in_force(each, name) for each in findings)] for name in names),
    )


def _in_force(finding: Finding, layer: str) -> str:
    if finding.trial is None:
        return "?"
    found = finding.layers.get(layer)
    return "-" if found is None else "yes" if found[0] else "NO"


def _missing(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Each layer that was tried in vain, once, with the reason and the way to it."""
    told: dict[str, str] = {}
    for each in findings:
        for name, (in_force, reason) in each.layers.items():
            if not in_force:
                remedy = remedy_of(name)
                told.setdefault(name, reason + (remedy and f"\nto get it: {remedy}"))
    yield from told.items()


# --- the lines below the table ----------------------------------------------------------------------------


def _who() -> str:
    uid = os.geteuid()
    return "as root" if uid == 0 else f"as {_name(uid)}"


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def limits_mode() -> str:
    """How memory, CPU time and processes of a runner are kept."""
    return "memory, CPU time and processes are sampled four times a second"


def _secrets(finding: Finding) -> str:
    trial = finding.trial
    if trial is None:
        return "not tried"
    seen = trial.seen
    if seen.variables:
        return f"reachable: inherited {', '.join(seen.variables)}"
    if seen.readable:
        files = " and ".join(f"/proc/MASTER/{name}" for name in seen.readable)
        how = f"reachable: {files} can be read"
        if seen.uid == 0 and finding.profile != "none":
            return f"{how}, because runners are root as the master is; name a [policy] user for them"
        return f"{how}, because this profile does not shield the master"
    if finding.profile == "strict":
        return "no Redis URL, password, token or socket is reachable"
    return (
        "nothing is inherited (environment, memory, descriptors), nothing of the master is readable in "
        f"/proc; files and sockets that {_name(seen.uid)} may open stay reachable"
    )


def _server(config: Config) -> str:
    # At the top it would load the transport, which loads redis.
    from supervisor.transport.embedded_binary import find_binary

    try:
        found = find_binary(config.embedded.binary, config.embedded.state_dir / "redis")
    except EmbeddedServerError as error:
        return str(error)
    return f"{found}, {found.path}"


# --- for programs -----------------------------------------------------------------------------------------


def _records(findings: Sequence[Finding], config: Config) -> Iterator[dict[str, Any]]:
    yield {
        "what": "host",
        "oxherd": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "uid": os.geteuid(),
        "limits": limits_mode(),
        "embedded": _server(config),
    }
    for each in findings:
        yield {
            "what": "profile",
            "profile": each.profile,
            "available": not each.why_not,
            "why_not": each.why_not or None,
            "secrets": _secrets(each),
            "runner_uid": None if each.trial is None else each.trial.seen.uid,
        }
        for name, (in_force, reason) in each.layers.items():
            yield {
                "what": "layer",
                "profile": each.profile,
                "layer": name,
                "in_force": in_force,
                "reason": reason or None,
                "remedy": None if in_force else remedy_of(name) or None,
            }
