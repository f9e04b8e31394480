"""The masters that run here, and how to ask one: the client's half of the control socket.

Decides which master is meant when none, or a pid, is named. What may be asked is the master's to say
(`supervisor/master/control.py`).
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from supervisor.cli.command import Common
from supervisor.config.runtime import SOCKET, where_to_look
from supervisor.errors import ConfigError, MasterNotFound, MasterRefused, UsageError
from supervisor.transport.address import Address

EMBEDDED: Final = "embedded"
CONNECTS_WITHIN_S: Final = 5.0
LONGEST_ADDRESS: Final = 100  # a unix address has room for 107 bytes


class Master(msgspec.Struct, frozen=True):
    """One that runs, as it can be found."""

    pid: int
    socket: Path


def running(common: Common) -> list[Master]:
    """The masters that can be asked: this user's, and for root everybody's that a session has; by pid."""
    dirs = where_to_look(os.environ, _state_dir(common))
    found = {master.pid: master for each in dirs for master in _in(each) if _listens(master)}
    return [found[pid] for pid in sorted(found)]


def _state_dir(common: Common) -> Path:
    """A config that is broken by now hinders nobody to stop who runs by the one before it."""
    if common.redis is not None and common.redis != EMBEDDED:
        Address.parse(common.redis)  # not needed, and wrong all the same
    try:
        return common.load().config.embedded.state_dir
    except ConfigError:
        if common.config is not None:
            raise
        without = Common(common.redis, common.prefix, Path(os.devnull), common.json)
        return without.load().config.embedded.state_dir


def the_one(common: Common, pid: int | None = None) -> Master:
    """The master that is meant: the one with this pid, or the only one there is.

    Raises `MasterNotFound`, and `UsageError` when there are several.
    """
    found = running(common)
    if pid is not None:
        chosen = [each for each in found if each.pid == pid]
        if not chosen:
            others = f"; there are {_listed(found)}" if found else ""
            raise MasterNotFound(f"no master of yours has the pid {pid}{others}; nothing was changed")
        return chosen[0]
    if not found:
        raise MasterNotFound(
            "no master of yours runs here, so there is nobody to ask (oxherd run starts one; one of another "
            "user is asked by that user or by root)"
        )
    if len(found) > 1:
        raise UsageError(f"{len(found)} masters run here: say which with --pid, {_listed(found)}")
    return found[0]


def _listed(masters: list[Master]) -> str:
    return ", ".join(str(each.pid) for each in masters)


def ask(master: Master, verb: str, *, within_s: float | None = 30.0, **args: Any) -> dict[str, Any]:
    """One question, and the result. `within_s` None waits as long as it takes.

    Raises `MasterRefused` with the master's sentence, `UsageError` when the question was wrong, and
    `MasterNotFound` when nobody answers.
    """
    question = json.dumps({"do": verb, **args}).encode() + b"\n"
    try:
        with closing(_connected(master)) as link:
            link.sendall(question)
            link.settimeout(within_s)
            with link.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except TimeoutError:
        raise MasterNotFound(f"the master {master.pid} did not answer {verb} within {within_s:g} s") from None
    except (OSError, ValueError):
        raise MasterNotFound(f"the master {master.pid} has gone before it had answered {verb}") from None
    if answer.get("ok"):
        result: dict[str, Any] = answer["result"]
        return result
    raise (UsageError if answer.get("usage") else MasterRefused)(str(answer.get("error")))


def _in(directory: Path) -> Iterator[Master]:
    """The sockets of a directory and of those directly below it, an instance's."""
    name = SOCKET.format(pid="*")
    for pattern in (name, f"*/{name}"):
        try:
            paths = list(directory.glob(pattern))
        except OSError:
            continue  # somebody else's
        for path in paths:
            pid = path.name.partition(".")[0]
            if pid.isdecimal() and _trusted(path):
                yield Master(int(pid), path)


def _trusted(path: Path) -> bool:
    """Nobody but its user can have put it there."""
    try:
        found, place = path.lstat(), path.parent.lstat()
    except OSError:
        return False
    return (
        stat.S_ISSOCK(found.st_mode)
        and found.st_uid == place.st_uid
        and not place.st_mode & 0o022
        and (os.geteuid() == 0 or found.st_uid == os.geteuid())
    )


def _listens(master: Master) -> bool:
    try:
        _connected(master).close()
    except OSError:
        return False
    return True


def _connected(master: Master) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(CONNECTS_WITHIN_S)
    try:
        if len(os.fsencode(master.socket)) <= LONGEST_ADDRESS:
            link.connect(str(master.socket))
        else:
            fd = os.open(master.socket.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                link.connect(f"/proc/self/fd/{fd}/{master.socket.name}")
            finally:
                os.close(fd)
    except BaseException:
        link.close()
        raise
    return link
