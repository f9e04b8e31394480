"""The directory of an embedded server: its locks and files; how the server in it is started, asked, stopped.

Who may do so and when, `embedded` decides; all that changes something here is called with the gate held.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from supervisor.errors import EmbeddedServerError
from supervisor.transport.embedded_binary import ServerBinary

LONGEST_SOCKET_PATH: Final = 103  # bytes; Linux takes 107, macOS 103
START_S: Final = 15.0  # until the first sign of life
LOADING_S: Final = 600.0  # a large append-only file is read at a few hundred megabytes a second
STOP_S: Final = 20.0
GATE_S: Final = 60.0
_PAUSE_S: Final = 0.003
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "TZ")

_CONFIG: Final = """\
daemonize yes
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{directory}"
pidfile "{directory}/server.pid"
logfile "{directory}/server.log"
appendonly yes
appendfsync everysec
aof-use-rdb-preamble no
save ""
maxmemory-policy noeviction
proc-title-template "oxherd: {{title}} {{unixsocket}}"
"""  # Without the preamble the file is plain commands, which Redis and Valkey of any age read alike.


class Lock(msgspec.Struct):
    """A flock on an open file; gone with the process that holds it."""

    fd: int

    @classmethod
    def opened(cls, path: Path) -> Lock:
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @classmethod
    def shared(cls, path: Path) -> Lock:
        lock = cls.opened(path)
        fcntl.flock(lock.fd, fcntl.LOCK_SH)  # at once: who wants it exclusively stands in the gate, as we do
        return lock

    def upgrade(self) -> bool:
        """Take it exclusively; False if another holds it too (and then ours may be lost)."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self.fd)


def _until(fact: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


# --- the place and its server ----------------------------------------------------------------------


class Place:
    """The directory of one embedded server, and what can be done there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _private_directory(self.path)
        except OSError as error:
            raise EmbeddedServerError(
                f"the embedded server cannot keep its data in {self.path}: {error.strerror}; "
                "set OXHERD_EMBEDDED_STATE_DIR, or name a Redis with OXHERD_REDIS_URL"
            ) from None

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        lock = Lock.opened(self.path / "gate")
        try:
            if not _until(lock.upgrade, GATE_S):
                raise EmbeddedServerError(
                    f"another oxherd has been starting or stopping the embedded server for {GATE_S:.0f} s; "
                    f"what it waits for is in {self.path / 'server.log'}"
                )
            yield
        finally:
            lock.release()

    def lives(self) -> bool:
        """Whether a server process exists: it holds `alive` exclusively. Two that look at once share it."""
        try:
            fd = os.open(self.path / "alive", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    # what was written down

    def password(self) -> str:
        return (self.path / "password").read_text().strip()

    def _record(self) -> dict[str, str]:
        try:
            record = json.loads((self.path / "server.json").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def recorded_socket(self) -> str:
        return self._record().get("socket", "")

    def recorded_binary(self) -> str:
        return self._record().get("binary", "")

    def url(self) -> str:
        return f"unix://{quote(self.recorded_socket())}?password={quote(self.password(), safe='')}"

    # talking to it

    def ping(self) -> str:
        """`PONG`, the error it answered with, or nothing."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(self.recorded_socket())
                connection.sendall(f"AUTH {self.password()}\r\nPING\r\n".encode())
                reply = b""
                while reply.count(b"\r\n") < 2 and (part := connection.recv(512)):
                    reply += part
        except OSError:
            return ""
        return reply.decode("utf-8", "replace").strip().rpartition("\r\n")[2].lstrip("+-")

    def answers(self) -> bool:
        """Wait until the server takes commands. False if it never will."""
        last = ""

        def settled() -> bool:
            nonlocal last
            last = self.ping()
            return last == "PONG" or not self.lives() or last.startswith(("WRONGPASS", "NOAUTH"))

        if not _until(lambda: settled() or last.startswith("LOADING"), START_S):
            return False
        return _until(settled, LOADING_S) and last == "PONG"

    # starting and stopping it; the gate is held

    def start(self, binary: ServerBinary) -> None:
        path = _socket_path(self.path)
        path.unlink(missing_ok=True)
        (self.path / "server.pid").unlink(missing_ok=True)
        password = self._make_password()
        record = {"socket": str(path), "binary": str(binary.path), "server": str(binary)}
        _write_private(self.path / "server.json", json.dumps(record))
        config = _CONFIG.format(socket=path, password=password, directory=self.path)
        before = self._log_size()
        alive = Lock.opened(self.path / "alive")
        try:
            fcntl.flock(alive.fd, fcntl.LOCK_EX)
            said = _launch(binary, config, alive.fd)
        finally:
            alive.release()  # the server's own copy keeps the lock
        if said or not self.answers():
            reason = said or self._last_words(before)
            self.stop()
            raise EmbeddedServerError(
                f"the embedded server ({binary}) did not start: {reason}. Its data is untouched."
            )

    def stop(self) -> None:
        """SIGTERM, and wait. Never SIGKILL: the last second of the append-only file would go with it."""
        if not self.lives():
            return
        _until(self._signal_server, START_S)
        if not _until(lambda: not self.lives(), STOP_S):
            raise EmbeddedServerError(
                f"the embedded server does not stop; what it waits for is in {self.path / 'server.log'}"
            )
        for left in (self.recorded_socket(), self.path / "server.pid"):
            with contextlib.suppress(OSError):
                os.unlink(left)

    def _signal_server(self) -> bool:
        """Send SIGTERM to the server; True when sent, or when there is none any more."""
        if not self.lives():
            return True
        try:
            pid = int((self.path / "server.pid").read_text())
        except (OSError, ValueError):
            return False  # it has not written it yet
        if not hasattr(os, "pidfd_open"):  # macOS
            os.kill(pid, signal.SIGTERM)
            return True
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            # The number may be another process's by now: the server is the one that has `alive` open.
            if _has_open(pid, self.path / "alive"):
                signal.pidfd_send_signal(process, signal.SIGTERM)
                return True
            return False
        except ProcessLookupError:
            return True
        finally:
            os.close(process)

    def _make_password(self) -> str:
        path = self.path / "password"
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(32) + "\n")
        return self.password()

    def _log_size(self) -> int:
        """Where the log ends now. One that has grown beyond a megabyte is begun anew."""
        path = self.path / "server.log"
        try:
            size = path.stat().st_size
        except OSError:
            return 0
        if size < 1 << 20:
            return size
        path.replace(path.with_suffix(".log.old"))
        return 0

    def _last_words(self, since: int) -> str:
        try:
            lines = (
                (self.path / "server.log")
                .read_bytes()[since:]
                .decode("utf-8", "replace")
                .strip()
                .splitlines()
            )
        except OSError:
            lines = []
        # "6324:M 22 Nov 2026 13:39:42.252 # Fatal error..."
        return re.sub(r"^\d+:\w .*? [#*] ", "", lines[-1]) if lines else "it ended without a word"


def _launch(binary: ServerBinary, config: str, alive: int) -> str:
    """Start the server in a session of its own; what it complains of, if it does.

    The settings go through stdin: neither they nor the password are ever on a command line. The server
    detaches itself (`daemonize`), so that it is not a child of ours for anyone to reap.
    """
    try:
        answer = subprocess.run(
            [binary.path, "-"],
            input=config.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(alive,),
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            umask=0o077,
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if answer.returncode == 0:
        return ""
    lines = answer.stdout.decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-3:]) or f"exit status {answer.returncode}"


def _socket_path(directory: Path) -> Path:
    """In the directory itself, or, where that path is too long for a socket, in one made for it."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (Path(runtime, f"oxherd-{name}"), Path("/tmp", f"oxherd-{os.geteuid()}-{name}")):
        path = parent / "redis.sock"
        if parent.is_absolute() and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            with contextlib.suppress(OSError):
                _private_directory(parent)
                return path
    raise EmbeddedServerError(
        "no directory was found for the socket of the embedded server; set OXHERD_EMBEDDED_STATE_DIR"
    )


def _private_directory(path: Path) -> None:
    """A directory that is ours and closed to others; refuses one that somebody else has put there."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, f"it belongs to user {found.st_uid}, or is no directory")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and readable by the user alone from the first byte on."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _has_open(pid: int, path: Path) -> bool:
    wanted = path.stat()
    try:
        descriptors = list(Path("/proc", str(pid), "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False
