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

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from supervisor.transport.embedded_binary import find_binary
from supervisor.transport.embedded_place import Lock, Place


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


def acquire(state_dir: Path, binary: Path | None = None) -> EmbeddedServer:
    """Use the server of `state_dir`; start it if it does not run.

    binary   a server of the caller's own choice, else the first that is found. A server that runs already is
             used whatever it is made of.
    """
    place = _place(state_dir)
    place.make()
    with place.gate():
        users = Lock.shared(place.path / "users")
        try:
            started = not (place.lives() and place.answers())
            if started:
                place.stop()  # one that lives and cannot be reached, else nothing
                place.start(find_binary(binary, place.path))
            return EmbeddedServer(place, users, started=started)
        except BaseException:
            users.release()
            raise


def join(state_dir: Path) -> EmbeddedServer | None:
    """Use the server of `state_dir` if it runs; None, and nothing is started or written, if not."""
    place = _place(state_dir)
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


def running(state_dir: Path) -> str | None:
    """The URL of the server of `state_dir` if it runs. No hold on it: it may stop at any time."""
    place = _place(state_dir)
    return place.url() if place.lives() and place.answers() else None


def _place(state_dir: Path) -> Place:
    return Place(state_dir.absolute() / "redis")


def answers_ping(host: str = "127.0.0.1", port: int = 6379, within_s: float = 0.2) -> bool:
    """Whether some Redis listens there, open or not."""
    try:
        with socket.create_connection((host, port), timeout=within_s) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-LOADING"))
    except OSError:
        return False
