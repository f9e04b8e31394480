"""The embedded server: a private Redis of one user, on a unix socket, with its data kept.

It decides who starts the server, who may use it and who stops it. Which binary it is, `embedded_binary`
decides, and whether there is to be one at all, the command line. Everything here blocks: it is called before
the event loop starts.

Files, all in `<state>/redis`, which only the user may enter:
    gate       held exclusively while somebody starts or stops the server
    users      held shared by everyone who uses it; who gets it exclusively was the last and stops the server
    alive      held by the server itself, which inherits it: no server lives exactly when it is free
    password, server.json (the socket), server.pid (written by the server), server.log, the append-only file

The kernel frees each lock when its holder dies, whatever it died of, so no file is trusted to tell who lives.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from supervisor.errors import EmbeddedServerError
from supervisor.transport.embedded_binary import find_binary
from supervisor.transport.embedded_place import Lock, Place


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`OXHERD_STATE_DIR`, else `oxherd` where this user's programs keep their state."""
    if named := environ.get("OXHERD_STATE_DIR"):
        return Path(named).absolute()
    if (home := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(home, "oxherd")
    if not (home := environ.get("HOME", "")).startswith("/"):
        raise EmbeddedServerError(
            "there is no home directory to keep the embedded server in; set OXHERD_STATE_DIR, "
            "or name a Redis with OXHERD_REDIS_URL"
        )
    return Path(home, ".local", "state", "oxherd")


class EmbeddedServer:
    """One user's hold on the running server. Closing it stops the server when no one else holds it."""

    def __init__(self, place: Place, users: Lock, *, started: bool) -> None:
        self._place = place
        self._users: Lock | None = users
        self.url = place.url()
        self.socket = place.recorded_socket()
        self.binary = place.recorded_binary()
        self.started = started  # by this very call

    def close(self) -> None:
        """Leave. The last to leave stops the server and waits until its data is on the disk."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            with self._place.gate():
                if users.upgrade():
                    self._place.stop()
        finally:
            users.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()


def acquire(state_dir: Path | None = None, binary: str | None = None) -> EmbeddedServer:
    """Use the embedded server of this user; start it if it does not run.

    binary   a server of the caller's own choice; else `OXHERD_EMBEDDED_BINARY`, else the first that is found.
             A server that runs already is used whatever it is made of.
    """
    place = Place((state_dir or default_state_dir()) / "redis")
    place.make()
    with place.gate():
        users = Lock.shared(place.path / "users")
        try:
            started = not (place.lives() and place.answers())
            if started:
                place.stop()  # one that lives and cannot be reached, else nothing
                place.start(find_binary(binary or os.environ.get("OXHERD_EMBEDDED_BINARY"), place.path))
            return EmbeddedServer(place, users, started=started)
        except BaseException:
            users.release()
            raise


def join(state_dir: Path | None = None) -> EmbeddedServer | None:
    """Use the embedded server of this user if it runs; None, and nothing is started or written, if not."""
    place = Place((state_dir or default_state_dir()) / "redis")
    if not place.lives():
        return None
    with place.gate():
        users = Lock.shared(place.path / "users")
        try:
            if place.lives() and place.answers():
                return EmbeddedServer(place, users, started=False)
        except BaseException:
            users.release()
            raise
        users.release()
        return None


def running(state_dir: Path | None = None) -> str | None:
    """The URL of this user's embedded server if it runs. No hold on it: it may stop at any time."""
    place = Place((state_dir or default_state_dir()) / "redis")
    return place.url() if place.lives() and place.answers() else None


def answers_ping(host: str = "127.0.0.1", port: int = 6379, within_s: float = 0.2) -> bool:
    """Whether some Redis listens there, open or not."""
    try:
        with socket.create_connection((host, port), timeout=within_s) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-LOADING"))
    except OSError:
        return False
