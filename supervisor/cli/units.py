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


class Machine(msgspec.Struct, frozen=True):
    """What the files are made for.

    program     the command line that is `oxherd` here.
    version     of systemd.
    directory   where the processors are; None for the directory of the service's state.
    config      of the single service; None for /etc/oxherd/oxherd.toml.
    """

    program: tuple[str, ...]
    version: int
    directory: Path | None = None
    config: Path | None = None


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
    """Path below the root of the file system -> text. `instances`: oxherd@.service, else oxherd.service."""
    source = shipped()
    unit = "oxherd@.service" if instances else "oxherd.service"
    units = Path("etc/systemd/system")
    made = {
        units / unit: _for_machine((source / unit).read_text(), machine),
        units / "oxherd.slice": (source / "oxherd.slice").read_text(),
        Path("etc/sysusers.d/oxherd.conf"): (source / "sysusers.d/oxherd.conf").read_text(),
        Path("etc/tmpfiles.d/oxherd.conf"): (source / "tmpfiles.d/oxherd.conf").read_text(),
    }
    for since, name in ((RELOADS_BY_NOTIFY, "notify-reload"), (KNOWS_SUBGROUPS, "delegate-subgroup")):
        if machine.version >= since:
            text = (source / f"drop-ins/{name}.conf").read_text()
            made[units / f"{unit}.d" / f"10-{name}.conf"] = text
    return made


def _for_machine(text: str, machine: Machine) -> str:
    program = " ".join(_word(each) for each in machine.program)
    text = text.replace(f"={SHIPPED_PROGRAM} ", f"={program} ")
    if machine.directory is not None:
        text = text.replace(
            "WorkingDirectory=/var/lib/oxherd\n", f"WorkingDirectory={_path(machine.directory)}\n"
        )
    if machine.config is not None:
        text = text.replace("--config /etc/oxherd/oxherd.toml", f"--config {_word(str(machine.config))}")
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
