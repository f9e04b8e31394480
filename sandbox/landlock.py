"""Landlock: which files a process may open, whom it may signal, and whether it may speak TCP.

Builds rules and applies them; which paths are on the list is `paths.py`'s. Rules are about inodes and hold
for what is beneath them; a second ruleset can only take away. What a kernel cannot do yet is left out of the
rules and told by `can`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox import linux

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_13 = (1 << 13) - 1  # what the first generation knows

LIST = READ_DIR
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE
EVERYTHING = _FIRST_13 | REFER | TRUNCATE | IOCTL_DEV
# What a runner may do where it may write: everything but to make devices.
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
OWN = EVERYTHING & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)

_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

TCP_BIND, TCP_CONNECT = 1 << 0, 1 << 1
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1

# generation of Landlock -> what of the above it has first
_REFER_FROM, _TRUNCATE_FROM, _TCP_FROM, _IOCTL_FROM, _SCOPES_FROM = 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Rule:
    """This access is allowed to the path and what is beneath it. A path that is not there is left out."""

    path: str
    access: int


@dataclass(frozen=True, slots=True)
class Can:
    """What the kernel's Landlock knows."""

    abi: int

    @property
    def files(self) -> int:
        known = _FIRST_13
        for first, right in ((_REFER_FROM, REFER), (_TRUNCATE_FROM, TRUNCATE), (_IOCTL_FROM, IOCTL_DEV)):
            if self.abi >= first:
                known |= right
        return known

    @property
    def tcp(self) -> bool:
        return self.abi >= _TCP_FROM

    @property
    def scopes(self) -> bool:
        return self.abi >= _SCOPES_FROM


def can() -> Can:
    """Raises OSError on a kernel without Landlock."""
    return Can(linux.landlock_abi())


def restrict(rules: Iterable[Rule], *, tcp: bool, known: Can) -> None:
    """Nothing of the file system but by the rules; no signal to, and no abstract socket of, anyone outside.

    tcp   TCP stays allowed.
    """
    denied_tcp = 0 if tcp or not known.tcp else TCP_BIND | TCP_CONNECT
    scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if known.scopes else 0
    ruleset_fd = linux.landlock_ruleset(known.files, denied_tcp, scoped, known.abi)
    try:
        for rule in rules:
            _add(ruleset_fd, rule, known)
        linux.landlock_restrict(ruleset_fd)
    finally:
        os.close(ruleset_fd)


def _add(ruleset_fd: int, rule: Rule, known: Can) -> None:
    try:
        fd = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        access = rule.access & known.files
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_A_FILE
        if access:
            linux.landlock_allow(ruleset_fd, fd, access)
    finally:
        os.close(fd)
