"""The unit files of systemd for one machine: made from those in `systemd/`, whose texts are the only ones.

Decides what differs from machine to machine (the program's path, where the processors are, what this version
of systemd knows), and whether a file that is there is as it was written or somebody's work. Which files are
written, and what is said about it, is `systemd.py`'s.

A written file begins with a line that has the hash of all below it, so that an edit is seen.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Final

import msgspec

import supervisor

SHIPPED_PROGRAM: Final = "/usr/bin/oxherd"
OLDEST: Final = 250  # what the shipped units were made for knows all of their settings
RELOADS_BY_NOTIFY: Final = 253
KNOWS_SUBGROUPS: Final = 254
_SEAL: Final = "# Written by `oxherd systemd install`; the hash of what follows: "
_SEALED: Final = re.compile(re.escape(_SEAL) + r"([0-9a-f]{64})\n(.*)", re.DOTALL)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@:./+,=-]+")
# What a user's own manager has not the rights for (it starts nothing with one of them), or what is not there:
# other users, units of the system such as Redis. State is where the user's programs have it.
_SYSTEM_ALONE: Final = re.compile(
    r"^(After|Wants|User|Group|StateDirectory|StateDirectoryMode|Environment|CapabilityBoundingSet"
    r"|AmbientCapabilities|PrivateTmp|PrivateDevices|RemoveIPC|Protect[A-Za-z]+)=.*\n",
    re.MULTILINE,
)
_FOR_A_USER: Final = {
    "/etc/oxherd/": "%E/oxherd/",  # $XDG_CONFIG_HOME, as the manager knows it
    "WorkingDirectory=/var/lib/oxherd\n": "WorkingDirectory=%h\n",
    "`systemctl edit": "`systemctl --user edit",
    "WantedBy=multi-user.target": "WantedBy=default.target",
    "All masters of this machine": "All masters of this user",
    "Oxherd, all masters and": "Oxherd, all masters of this user and",
}


class Machine(msgspec.Struct, frozen=True):
    """What the files are made for.

    program     the command line that is `oxherd` here.
    version     of systemd.
    directory   where the processors are; None for the directory of the service's state.
    config      of the single service; None for /etc/oxherd/oxherd.toml.
    user        for the manager of one user, below whose directory of settings they go, not for the system's.
    """

    program: tuple[str, ...]
    version: int
    directory: Path | None = None
    config: Path | None = None
    user: bool = False


def own_program() -> tuple[str, ...]:
    """What starts this very program: the script beside the interpreter, else the interpreter."""
    script = Path(sys.executable).parent / "oxherd"
    if script.is_file():
        return (str(script),)
    return (sys.executable, "-P", "-m", "supervisor")


def shipped() -> Path:
    """Where the texts are: inside the package when it was installed, beside it in a checkout."""
    package = Path(supervisor.__file__).parent
    inside = package / "units"
    return inside if inside.is_dir() else package.parent / "systemd"


def files(machine: Machine, *, instances: bool) -> dict[Path, str]:
    """Path below the root of the file system -> text. `instances`: oxherd@.service, else oxherd.service.

    Of a user's the path is below the directory of settings, ~/.config.
    """
    source = shipped()
    unit = "oxherd@.service" if instances else "oxherd.service"
    units = Path("systemd/user" if machine.user else "etc/systemd/system")
    made = {
        units / unit: _for_machine((source / unit).read_text(), machine),
        units / "oxherd.slice": _for_manager((source / "oxherd.slice").read_text(), machine),
    }
    if not machine.user:
        for path in ("sysusers.d/oxherd.conf", "tmpfiles.d/oxherd.conf"):
            made[Path("etc", path)] = (source / path).read_text()
    for since, name in ((RELOADS_BY_NOTIFY, "notify-reload"), (KNOWS_SUBGROUPS, "delegate-subgroup")):
        if machine.version >= since:
            text = (source / f"drop-ins/{name}.conf").read_text()
            made[units / f"{unit}.d" / f"10-{name}.conf"] = text
    return made


def _for_manager(text: str, machine: Machine) -> str:
    if machine.user:
        text = _SYSTEM_ALONE.sub("", text)
        for theirs, ours in _FOR_A_USER.items():
            text = text.replace(theirs, ours)
    return text


def _for_machine(text: str, machine: Machine) -> str:
    text = _for_manager(text, machine)
    program = " ".join(_word(each) for each in machine.program)
    text = text.replace(f"={SHIPPED_PROGRAM} ", f"={program} ")
    if (there := machine.directory) is not None:
        text = re.sub("WorkingDirectory=.*", lambda _: f"WorkingDirectory={_path(there)}", text)
    if machine.config is not None:
        given = f"--config {_word(str(machine.config))}"
        text = re.sub(r"--config \S+/oxherd/oxherd\.toml", lambda _: given, text)
    paths = (Path(machine.program[0]), machine.directory, machine.config)
    homes = [each for each in paths if each and below_home(each)]
    if homes:
        text = text.replace("ProtectHome=yes\n", "ProtectHome=read-only\n")
    return text


def below_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in ("/home", "/root", "/run/user"))


def _path(path: Path) -> str:
    return str(path).replace("%", "%%")


def _word(text: str) -> str:
    """One word of a command line: systemd reads `%`, `$`, quotes and spaces."""
    text = text.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def not_reachable(path: Path) -> Path | None:
    """The directory on the way to `path` that keeps other users out; None for none."""
    for each in reversed(path.parents):
        try:
            if not each.stat().st_mode & 0o001:
                return each
        except OSError:
            return each
    return None


# --- files that are there -----------------------------------------------------------------------------


def sealed(text: str) -> str:
    return f"{_SEAL}{_hash(text)}\n{text}"


def is_ours(text: str) -> bool:
    """Was it written by us, and by nobody since?"""
    found = _SEALED.fullmatch(text)
    return found is not None and found[1] == _hash(found[2])


def was_ours(text: str) -> bool:
    """Was it written by us, whoever has changed it since?"""
    return text.startswith(_SEAL)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
