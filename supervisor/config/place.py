"""Where a listener stands: a port, mostly of the loopback, or a unix socket."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from supervisor.config.option import Kind

LOOPBACK: Final = "127.0.0.1"
LONGEST_PATH: Final = 107  # bytes, of the kernel


class Place(msgspec.Struct, frozen=True):
    """`path` of a unix socket, or else host and port."""

    host: str = LOOPBACK
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_of(value: Any) -> Place:
    """`9464` (loopback), `HOST:9464`, `[::1]:9464`, `unix:/PATH` or `/PATH`. Raises `ValueError`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is no address; write a port, or text")
    if text.startswith(("unix:", "/")):
        path = text.removeprefix("unix://").removeprefix("unix:")
        if not path.startswith("/") or len(os.fsencode(path)) > LONGEST_PATH or "\0" in path:
            raise ValueError(
                f"{text!r}: the path of a socket begins with / and has {LONGEST_PATH} bytes at most"
            )
        return Place(path=path)
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdecimal()) or int(port) > 65_535 or (":" in bare and bare == host):
        raise ValueError(f"{text!r} is no address; write PORT, HOST:PORT, [IPv6]:PORT or unix:/PATH")
    return Place(bare or LOOPBACK, int(port))


PLACE: Final = Kind("ADDRESS", place_of)
