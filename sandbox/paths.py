"""Which paths a `strict` process may open: the interpreter, libraries, what Python imports, and the policy's.

Values only; what keeps them is `landlock.py`.

The directories of the user's own code are special: a `.env` or an `oxherd.toml` often lies beside the module,
with the secret in it that the runner must not have. So such a directory may be listed, its entries are
allowed one by one, and those that look like secrets are left out: names that begin with a dot, and
`oxherd.toml`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandbox.landlock import LIST, OWN, READ, WRITE, Rule
from sandbox.policy import Policy

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
# What a program asks of the kernel; of other processes only what anybody may see.
KERNEL = ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/block", "/sys/class/net")
# Of /etc what programs look up; not shadow, not keys, not other programs' settings.
ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives", "localtime", "timezone",
    "passwd", "group", "nsswitch.conf", "hosts", "host.conf", "hostname", "resolv.conf", "gai.conf",
    "services", "protocols", "networks", "ssl/certs", "ssl/openssl.cnf", "ca-certificates", "pki/tls",
    "pki/ca-trust",
    "crypto-policies", "mime.types", "magic", "os-release", "lsb-release", "debian_version", "locale.alias",
    "locale.conf", "default/locale", "inputrc", "terminfo", "fonts", "python3", "python3.11", "python3.12",
    "python3.13", "python3.14", "ImageMagick-6", "ImageMagick-7", "OpenCL", "vulkan", "machine-id",
)  # fmt: skip
RESOLVER = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")
DEVICES_READ = ("/dev/zero", "/dev/random", "/dev/urandom", "/dev/full")
DEVICES_WRITTEN = ("/dev/null",)
# POSIX semaphores and shared memory live here: multiprocessing's locks are made of them.
SHARED_MEMORY = "/dev/shm"

SECRET_NAMES = frozenset({"oxherd.toml"})


@dataclass(frozen=True, slots=True)
class Root:
    """A path that may be read. `by_entry`: entry by entry, those that look like secrets left out."""

    path: str
    by_entry: bool = False


def roots(policy: Policy, here: str) -> list[Root]:
    """Everything that may be read. `here`: where the user's module is."""
    interpreter = os.path.realpath(sys.executable)
    ours = os.path.dirname(os.path.abspath(__file__))
    whole = [*SYSTEM, *KERNEL, *(f"/etc/{name}" for name in ETC), *policy.readable, interpreter, ours]
    if policy.network:
        whole += RESOLVER
    found = [Root(path) for path in _distinct(map(_real, whole))]
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    for path in sorted({_real(path) for path in (here, *prefixes, *sys.path) if path}):
        if not any(within(path, other.path) for other in found if not other.by_entry):
            found.append(Root(path, by_entry=os.path.isdir(path)))
    return found


def template_rules(policy: Policy, here: str) -> list[Rule]:
    """What the template may open, and so the most that any of its runners may.

    It writes where each of its runners may write its own. In /proc it may write what is its own there.
    """
    known = roots(policy, here)
    by_entry = [root.path for root in known if root.by_entry]
    rules = [Rule(root.path, READ) for root in known if not root.by_entry]
    for path in by_entry:
        rules += _by_entry(path, by_entry)
    rules += [Rule("/proc", WRITE), *_written(policy)]
    return [*rules, Rule(policy.jobs_dir, OWN)] if policy.jobs_dir else rules


def runner_rules(policy: Policy, known: Sequence[Root], directory: str) -> list[Rule]:
    """The same, but of the runners' directories only its own. Coarser where the template's rules do it."""
    rules = []
    jobs_dir = _real(policy.jobs_dir) if policy.jobs_dir else ""
    for root in known:
        if jobs_dir and within(jobs_dir, root.path):
            rules += _around(root.path, jobs_dir)
        else:
            rules.append(Rule(root.path, READ))
    return [*rules, *_written(policy), *([Rule(directory, OWN)] if directory else [])]


def _written(policy: Policy) -> list[Rule]:
    return [
        *(Rule(path, READ) for path in DEVICES_READ),
        *(Rule(path, WRITE) for path in DEVICES_WRITTEN),
        Rule(SHARED_MEMORY, OWN),
        *(Rule(path, OWN) for path in policy.writable),
    ]


def _by_entry(path: str, others: Sequence[str]) -> list[Rule]:
    """An entry in which another such directory lies is not opened whole, but on the way there listed."""
    rules = [Rule(path, LIST)]
    for entry in _entries(path):
        if entry.name.startswith(".") or entry.name in SECRET_NAMES or entry.path in others:
            continue
        if path == "/":
            # Only files: a module there must not open everything that is below.
            rules += [Rule(entry.path, READ)] if entry.is_file() else []
        elif any(within(other, entry.path) for other in others):
            rules += _by_entry(entry.path, others)
        else:
            rules.append(Rule(entry.path, READ))
    return rules


def _around(path: str, left_out: str) -> list[Rule]:
    """All beneath `path` but `left_out`, by the siblings on the way there."""
    rules = []
    while path != left_out:
        step = os.path.relpath(left_out, path).split(os.sep)[0]
        rules += [Rule(entry.path, READ) for entry in _entries(path) if entry.name != step]
        path = os.path.join(path, step)
    return rules


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError:
        return []


def within(path: str, other: str) -> bool:
    """`path` is `other` or beneath it. Both are real paths."""
    return path == other or path.startswith(other.rstrip("/") + "/")


def _real(path: str) -> str:
    return os.path.realpath(path)


def _distinct(paths: Iterable[str]) -> list[str]:
    """Each once, and none that is beneath another."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if path and not any(within(path, other) for other in kept):
            kept.append(path)
    return kept
