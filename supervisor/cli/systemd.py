"""`oxherd systemd`: the units of this machine, written and taken away again."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import as_json, note, out
from supervisor.cli.units import (
    OLDEST,
    Machine,
    files,
    is_ours,
    not_reachable,
    own_program,
    sealed,
    was_ours,
)
from supervisor.errors import UsageError

SETTINGS: Final = Path("etc/oxherd")
OF_A_USER: Final = Path("oxherd")
OTHER_WAY: Final = "root can, and --user makes units of your own"
OTHER_HOME: Final = "its place is told by XDG_CONFIG_HOME, or HOME"
_INSTANCE: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_VERSION: Final = re.compile(r"systemd (\d+)")
_ROOT: Final = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="the file system to work in, of an image say (default: /)",
)
_USER: Final = click.option(
    "--user",
    is_flag=True,
    help="units of your own manager, `systemctl --user`, below ~/.config: no root is needed",
)


@command(
    "install",
    exits="0 written, or as they were; 1 a file was edited by somebody and is left; 2 wrong usage",
    example="oxherd systemd install --directory /srv/thumbnails",
)
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="where the processors are (default: /var/lib/oxherd, or your home with --user)",
)
@click.option("--print", "only_print", is_flag=True, help="write nothing: show the files")
@click.option("--force", is_flag=True, help="also over files that somebody has edited; the old one is kept")
@_USER
@_ROOT
def install(
    common: Common,
    name: str | None,
    directory: Path | None,
    only_print: bool,
    force: bool,
    user: bool,
    root: Path | None,
) -> int:
    """Write the units for this machine: its interpreter, its version of systemd.

    One service, oxherd.service, which runs what --config FILE says (default: /etc/oxherd/oxherd.toml). With
    NAME the template of many, oxherd@.service, whose instance NAME runs /etc/oxherd/NAME.toml. Beside it a
    slice for all of them, the user they run as, and their directories. Nothing is started. Your own settings
    belong into drop-ins (`systemctl edit`): a file that was edited is not written over.

    With --user they are units of your own manager and run as you, with ~/.config/oxherd/oxherd.toml. What
    only the system's manager can take away from a service is left out; what isolates jobs is not.
    """
    root = _place(user, root)
    _check(common, name, user)
    machine = Machine(
        own_program(),
        _version(),
        _absolute(directory, "--directory"),
        _absolute(common.config, "--config"),
        user,
    )
    made = files(machine, instances=name is not None)
    if machine.directory is not None and not os.path.isdir(machine.directory):
        note(f"oxherd: there is no directory {machine.directory}; before it is there no service can start")
    for sentence in _doubts_of_a_user() if user else _doubts(machine):
        note(f"oxherd: {sentence}")
    if only_print:
        above = root if user else Path("/")
        out("\n".join(f"# --- {above / path}\n{text}" for path, text in made.items()).rstrip())
        return 0
    else_ = OTHER_HOME if user else OTHER_WAY
    done = {path: _written(root / path, sealed(text), force, else_) for path, text in made.items()}
    edited = _tell(common, root, done)
    if edited:
        note(
            "oxherd: a file was edited, so it is left as it is. Move the changes to a drop-in "
            f"({_systemctl(user)} edit), or use --force: the old file is then kept beside it as *.old"
        )
    elif not common.json:
        out("\n".join(["", "next:", *(f"  {line}" for line in _next(root, name, machine))]))
    return 1 if edited else 0


@command(
    "uninstall",
    exits="0 taken away, or not there; 1 a file was edited by somebody and is left; 2 wrong usage",
    example="oxherd systemd uninstall",
)
@_USER
@_ROOT
def uninstall(common: Common, user: bool, root: Path | None) -> int:
    """Take away what `install` has written. Stop and disable the services first.

    Settings, state, the user and your drop-ins stay.
    """
    root = _place(user, root)
    _check(common, None, user)
    machine = Machine(own_program(), 10_000, user=user)
    paths = {path for many in (True, False) for path in files(machine, instances=many)}
    done = {path: _removed(root / path) for path in sorted(paths) if (root / path).exists()}
    for directory in {path.parent for path in done if path.parent.name.endswith(".d")}:
        if "systemd" in directory.parts and not any((root / directory).iterdir()):
            (root / directory).rmdir()
    if not done and not common.json:
        out("there is nothing to take away")
    edited = _tell(common, root, done)
    if edited:
        note("oxherd: a file was edited, or is not ours, so it is left; remove it by hand")
    return 1 if edited else 0


systemd = family(
    "systemd",
    """Units for systemd, made for this machine.""",
    install,
    uninstall,
    takes="",
    exits="0 done, 1 a file was edited by somebody and is left, 2 wrong usage",
    example="oxherd systemd install",
)


def _place(user: bool, root: Path | None) -> Path:
    """What the paths of the files are below."""
    if not user:
        return root or Path("/")
    if root is not None:
        raise UsageError(
            "--user writes below your own ~/.config, and --root for the system; give one of them"
        )
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(named if named.startswith("/") else os.path.expanduser("~/.config"))


def _systemctl(user: bool) -> str:
    return "systemctl --user" if user else "systemctl"


def _check(common: Common, name: str | None, user: bool) -> None:
    """Refuse what a unit cannot have."""
    if common.redis is not None or common.prefix is not None:
        raise UsageError(
            "a unit has no --redis and no --prefix: write them into its config. Nothing was done"
        )
    if name is not None and common.config is not None:
        raise UsageError(f"the instance {name!r} has a config by its name; give --config or NAME")
    if name is not None and not _INSTANCE.fullmatch(name):
        raise UsageError(
            f"{name!r} names no instance: NAME stands for {'~/.config' if user else '/etc'}/oxherd/NAME.toml "
            "(letters, digits, _ . : -). Nothing was written"
        )
    if common.config is not None:
        common.load()  # raises for every mistake in it


def _absolute(path: Path | None, what: str) -> Path | None:
    if path is None:
        return None
    if not str(path).isprintable():
        raise UsageError(f"{what} {str(path)!r} cannot stand in a unit. Nothing was written")
    return path.absolute()


def _version() -> int:
    """systemd's; the oldest that we know when it cannot be asked."""
    try:
        done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return OLDEST
    found = _VERSION.match(done.stdout)
    return int(found[1]) if found else OLDEST


def _doubts(machine: Machine) -> Iterator[str]:
    """What may keep the service from starting."""
    if machine.version < OLDEST:
        yield (
            f"this systemd is {machine.version}, and the units are made for {OLDEST} or newer: "
            "settings that it does not know are ignored"
        )
    for what, path in (
        ("the program", Path(machine.program[0])),
        ("the directory", machine.directory and machine.directory / "x"),
        ("the config", machine.config),
    ):
        closed = path and os.path.exists(path.parent) and not_reachable(path)
        if closed:
            yield (
                f"{what} is below {closed}, which lets no other user in: the user oxherd cannot reach it. "
                "Install into a directory that is open to all, such as /opt/oxherd"
            )


def _doubts_of_a_user() -> Iterator[str]:
    if os.geteuid() == 0:
        yield "these are units of root's own manager; for a service of this machine leave out --user"
    elif not os.environ.get("XDG_RUNTIME_DIR"):
        yield (
            "XDG_RUNTIME_DIR is not set, as after su, so systemctl --user finds no manager of yours from "
            "here: log in (ssh, machinectl shell)"
        )


def _written(path: Path, text: str, force: bool, else_: str) -> str:
    """What was done: written, kept (it is the same), or edited (left alone). `else_`: what else would do."""
    if path.exists() or path.is_symlink():
        there = _text(path)
        if there == text:
            return "kept"
        if not is_ours(there):
            if not force:
                return "edited"
            path.rename(path.with_name(f"{path.name}.old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; {else_}") from None
    return "written"


def _removed(path: Path) -> str:
    if not is_ours(_text(path)):
        return "edited" if was_ours(_text(path)) else "not ours"
    try:
        path.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be removed: {error.strerror}; root can") from None
    return "removed"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{path} is there and cannot be read: {error.strerror}") from None


def _tell(common: Common, root: Path, done: Mapping[Path, str]) -> bool:
    """One line a file; was any left alone?"""
    for path, what in done.items():
        out(as_json({"file": str(root / path), "done": what}) if common.json else f"{what:<9} {root / path}")
    return any(what in ("edited", "not ours") for what in done.values())


def _next(root: Path, name: str | None, machine: Machine) -> Iterator[str]:
    if not machine.user:
        yield "systemd-sysusers oxherd.conf && systemd-tmpfiles --create oxherd.conf"
    settings = (OF_A_USER if machine.user else SETTINGS) / f"{name or 'oxherd'}.toml"
    if machine.config is None and not (root / settings).exists():
        there = root / settings if machine.user else Path("/") / settings
        yield f"write {there}: [redis] url, and a [queue.QUEUE] with its target"
    systemctl = _systemctl(machine.user)
    yield f"{systemctl} daemon-reload"
    yield f"{systemctl} enable --now {'oxherd.service' if name is None else f'oxherd@{name}.service'}"
    if machine.user:
        yield "loginctl enable-linger    (else it runs only while you are logged in)"
