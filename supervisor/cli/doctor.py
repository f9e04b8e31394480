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
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from supervisor import __version__
from supervisor.cli.command import Common, command
from supervisor.cli.remedies import remedy_of
from supervisor.cli.render import as_json, clean, out, table
from supervisor.config.model import Config
from supervisor.errors import EmbeddedServerError, SandboxError, UsageError

if TYPE_CHECKING:  # at the top it would load the master for `oxherd doctor --help`
    from supervisor.master.trial import Seen

PROFILES: Final = ("none", "process", "strict")
WIDEST: Final = 100
CGROUP: Final = "cgroup"
CGROUP_CPU: Final = "cgroup_cpu"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One profile, tried.

    why_not   empty when it can be had
    layers    each with whether it is in force, and why not
    seen      what the runner saw; None when there was none
    """

    profile: str
    why_not: str
    layers: Sequence[tuple[str, bool, str]]
    seen: Seen | None = None


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
    from sandbox.trial import layers_of
    from supervisor.master.cgroup import delegated, lacks_cpu
    from supervisor.master.settings import policy_of
    from supervisor.master.spawning import scrubbed
    from supervisor.master.trial import run_trial

    policy = policy_of(config.policy, profile)
    try:
        trial = run_trial([], policy, scrubbed(os.environ, [config.redis.url or ""]))
    except SandboxError as error:
        layers = layers_of(policy, os.getcwd())
        return Finding(profile=profile, why_not=str(error).partition("\n")[0], layers=layers)
    layers = [(each.name, each.in_force, each.reason) for each in trial.layers]
    why_not = ""
    group = delegated()
    lacking = {CGROUP: group if isinstance(group, str) else "", CGROUP_CPU: lacks_cpu(group)}
    for layer, reason in lacking.items():
        if layer in policy.require and reason:
            layers.append((layer, False, reason))
            why_not = f"it requires a cgroup of its own: {reason}"
    return Finding(profile=profile, why_not=why_not, layers=layers, seen=trial.seen)


# --- for people -------------------------------------------------------------------------------------------


def _text(findings: Sequence[Finding], asked: Finding, config: Config) -> Iterator[str]:
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    yield f"oxherd {__version__}, Python {platform.python_version()}, Linux {platform.release()}, {_who()}"
    yield _layers(findings)
    for why_not in dict.fromkeys(each.why_not for each in findings if each.why_not):
        names = ", ".join(each.profile for each in findings if each.why_not == why_not)
        yield _paragraph(f"{names} cannot be had:", why_not, width)
    if rows := list(_missing(findings)):
        yield "not in force\n" + "\n".join(_paragraph(f"  {name}", text, width, 4) for name, text in rows)
    facts = [
        ("limits", _limits_mode()),
        *((f"secrets, {each.profile}", _secrets(each, config)) for each in findings),
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
    names = dict.fromkeys(name for each in findings for name, *_ in each.layers)
    return table(
        ["layer", *(each.profile for each in findings)],
        ([name, *(_in_force(each, name) for each in findings)] for name in names),
    )


def _in_force(finding: Finding, layer: str) -> str:
    if not finding.layers:
        return "?"
    found = [in_force for name, in_force, _ in finding.layers if name == layer]
    return "-" if not found else "yes" if found[0] else "NO"


def _missing(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Each layer that was tried in vain, once, with the reason and the way to it."""
    told: dict[str, str] = {}
    for each in findings:
        for name, in_force, reason in each.layers:
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


def _limits_mode() -> str:
    """How memory and processes of a runner are kept."""
    # At the top it would load the master for `--help`.
    from supervisor.master.cgroup import delegated, lacks_cpu

    group = delegated()
    if isinstance(group, str):
        return (
            "memory, CPU time and processes of each runner's tree are sampled four times a second: "
            f"{group}. Nobody keeps cpus and cpu_weight. To have the kernel keep all, {remedy_of(CGROUP)}"
        )
    kept = f"are kept by the kernel, in a cgroup for each runner below {group.root}"
    if no_cpu := lacks_cpu(group):
        return (
            f"memory and processes {kept}; cpus and cpu_weight by nobody: {no_cpu}. "
            f"To have the kernel keep them too, {remedy_of(CGROUP_CPU)}"
        )
    return f"memory, processes, cpus and cpu_weight {kept}"


def _secrets(finding: Finding, config: Config) -> str:
    seen = finding.seen
    if seen is None:
        return "there is no runner that could reach any"
    if seen.variables:
        return f"reachable: inherited {', '.join(seen.variables)}"
    if seen.readable:
        files = " and ".join(f"/proc/MASTER/{name}" for name in seen.readable)
        how = f"reachable: {files} can be read"
        if seen.uid == 0 and finding.profile != "none":
            return f"{how}, because runners are root as the master is; name a [policy] user for them"
        return f"{how}, because this profile does not shield the master"
    if finding.profile == "strict":
        opened = [name for name in ("network", "unix_sockets") if getattr(config.policy, name)]
        but = f"; but [policy] {' and '.join(opened)} opens some" if opened else ""
        return f"no Redis URL, password, token or socket is reachable{but}"
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
        "limits": _limits_mode(),
        "embedded": _server(config),
    }
    for each in findings:
        yield {
            "what": "profile",
            "profile": each.profile,
            "available": not each.why_not,
            "why_not": each.why_not or None,
            "secrets": _secrets(each, config),
            "runner_uid": None if each.seen is None else each.seen.uid,
        }
        for name, in_force, reason in each.layers:
            yield {
                "what": "layer",
                "profile": each.profile,
                "layer": name,
                "in_force": in_force,
                "reason": reason or None,
                "remedy": None if in_force else remedy_of(name) or None,
            }
