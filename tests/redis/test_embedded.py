"""The embedded server: one of each user, found by all, gone with the last, its data kept."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from supervisor.errors import EmbeddedServerError
from supervisor.transport import embedded
from supervisor.transport.embedded_binary import find_binary

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from supervisor.transport import embedded
server = embedded.acquire(Path(sys.argv[1]), Path(sys.argv[2]))
print(server.started, server.url, flush=True)
sys.stdin.read()
server.close()
"""


@pytest.fixture(params=["redis", "valkey"])
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    if request.param == "valkey":
        monkeypatch.setenv("PATH", str(tmp_path))  # so that only the binary in the package is left
    try:
        found = find_binary(None, tmp_path)
    except EmbeddedServerError as error:
        found = None
        missing = str(error)
    if found is None or found.product.lower() != request.param:
        missing = missing if found is None else f"no {request.param} server is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found.path


@pytest.fixture
def state() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="oxherd-state-"))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(server_pid(path), signal.SIGKILL)
        shutil.rmtree(path, ignore_errors=True)


def server_pid(state: Path) -> int:
    return int((state / "redis" / "server.pid").read_text())


def ask(url: str, *lines: str) -> list[str]:
    """Send inline commands after the login; the replies, one line each."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(parts.path)
        connection.sendall("\r\n".join([f"AUTH {parse_qs(parts.query)['password'][0]}", *lines, ""]).encode())
        reply = connection.makefile("rb")
        assert reply.readline() == b"+OK\r\n"
        return [reply.readline().decode().strip() for _ in lines]


def bases(state: Path) -> int:
    """The number of the newest base of the append-only file; each rewriting makes the next."""
    manifest = (state / "redis" / "appendonlydir" / "appendonly.aof.manifest").read_text()
    return max(int(number) for number in re.findall(r"\.(\d+)\.base\.", manifest))


def rewrite(state: Path, url: str) -> None:
    before = bases(state)
    ask(url, "BGREWRITEAOF")
    until(lambda: bases(state) > before)


def until(fact: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan's zombie waits for the init of the machine, which may be none.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@contextlib.contextmanager
def holder(state: Path, binary: Path) -> Iterator[subprocess.Popen[str]]:
    """Another oxherd of this user, which holds the server until its stdin ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, state, binary],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> tuple[bool, str]:
    assert process.stdout is not None
    started, _, url = process.stdout.readline().strip().partition(" ")
    return started == "True", url


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0


def test_the_first_user_starts_it_and_the_last_stops_it(state: Path, binary: Path) -> None:
    with embedded.acquire(state, binary) as server:
        assert server.started
        assert ask(server.url, "PING") == ["+PONG"]
        pid = server_pid(state)

        with embedded.acquire(state, binary) as second:
            assert not second.started
            assert second.url == server.url
        assert ask(server.url, "PING") == ["+PONG"]

    assert gone(pid)
    assert embedded.running(state) is None
    assert not Path(server.socket).exists()


def test_another_process_of_the_user_finds_it(state: Path, binary: Path) -> None:
    with holder(state, binary) as other:
        started, url = first_line(other)
        assert started
        assert embedded.running(state) == url

        with embedded.acquire(state, binary) as server:
            assert not server.started
            leave(other)  # the one that started it
            assert ask(server.url, "PING") == ["+PONG"]
            pid = server_pid(state)

    assert gone(pid)


def test_joining_starts_nothing(state: Path, binary: Path) -> None:
    assert embedded.join(state) is None
    assert list(state.iterdir()) == []

    with embedded.acquire(state, binary):
        joined = embedded.join(state)
        assert joined is not None
    assert ask(joined.url, "PING") == ["+PONG"]  # the joined one holds it too
    joined.close()

    assert embedded.running(state) is None


def test_the_data_is_there_at_the_next_start(state: Path, binary: Path) -> None:
    with embedded.acquire(state, binary) as server:
        assert ask(server.url, "SET kept 1", "XADD stream * a b")[0] == "+OK"

    with embedded.acquire(state, binary) as server:
        assert ask(server.url, "EXISTS kept stream") == [":2"]


def test_data_of_one_kind_of_server_is_read_by_the_other(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_binary(None, state)
    monkeypatch.setenv("PATH", str(state))
    try:
        second = find_binary(None, state)
    except EmbeddedServerError:
        pytest.skip("only one kind of server is installed")
    for writer, reader in ((first, second), (second, first)):
        with embedded.acquire(state, writer.path) as server:
            ask(server.url, f"HSET hash written-by {writer.product}")
            rewrite(state, server.url)  # all of it in the writer's own form
        with embedded.acquire(state, reader.path) as server:
            assert ask(server.url, "HEXISTS hash written-by") == [":1"]


def test_a_killed_holder_leaves_a_server_only_until_the_next_user_leaves(state: Path, binary: Path) -> None:
    with holder(state, binary) as other:
        first_line(other)
        pid = server_pid(state)
        other.kill()
        other.wait()
    assert not gone(pid)

    with embedded.acquire(state, binary) as server:
        assert not server.started
        assert server_pid(state) == pid

    assert gone(pid)


def test_a_killed_server_is_started_again_over_what_it_left(state: Path, binary: Path) -> None:
    with embedded.acquire(state, binary) as server:
        ask(server.url, "SET kept 1")
        pid = server_pid(state)
        os.kill(pid, signal.SIGKILL)
        until(lambda: embedded.running(state) is None)
        assert Path(server.socket).exists()  # stale, as is the pid

        with embedded.acquire(state, binary) as again:
            assert again.started
            assert ask(again.url, "EXISTS kept") == [":1"]
            assert server_pid(state) != pid


def test_a_recycled_pid_is_never_signalled(state: Path, binary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        try:
            with embedded.acquire(state, binary):
                pid = server_pid(state)
                (state / "redis" / "server.pid").write_text(str(bystander.pid))
                place = embedded._place(state)
                assert place._signal_server() is False
                (state / "redis" / "server.pid").write_text(str(pid))
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_of_many_starters_at_once_one_starts(state: Path, binary: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(holder(state, binary)) for _ in range(4)]
        lines = [first_line(process) for process in processes]
        pid = server_pid(state)
        assert sorted(started for started, _ in lines) == [False, False, False, True]
        assert len({url for _, url in lines}) == 1
        for process in processes:
            leave(process)

    assert gone(pid)


def test_nobody_else_can_look_into_it(state: Path, binary: Path) -> None:
    with embedded.acquire(state, binary) as server:
        place = state / "redis"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(server.socket).stat().st_mode) & 0o077 == 0
        open_to_others = [path for path in place.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077]
        assert open_to_others == []
        password = (place / "password").read_text().strip()
        command_line = Path(f"/proc/{server_pid(state)}/cmdline").read_bytes()
        environ = Path(f"/proc/{server_pid(state)}/environ").read_bytes()
        assert password.encode() not in command_line + environ
        assert ask(server.url, "CONFIG GET port")[0].startswith("*2")
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(server.socket)
            stranger.sendall(b"GET x\r\n")
            assert stranger.recv(100).startswith(b"-NOAUTH")


def test_it_has_a_session_of_its_own(state: Path, binary: Path) -> None:
    """So that Ctrl-C reaches the master alone."""
    with embedded.acquire(state, binary):
        pid = server_pid(state)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)


def test_a_path_too_long_for_a_socket_is_gone_around(state: Path, binary: Path) -> None:
    deep = state / ("d" * 60) / ("e" * 60)
    with embedded.acquire(deep, binary) as server:
        try:
            assert len(os.fsencode(server.socket)) < 104
            assert not server.socket.startswith(str(state))
            assert stat.S_IMODE(Path(server.socket).parent.stat().st_mode) == 0o700
            assert embedded.running(deep) == server.url
        finally:
            server.close()
            shutil.rmtree(Path(server.socket).parent)


def test_a_broken_append_only_file_is_named_with_the_servers_own_words(state: Path, binary: Path) -> None:
    with embedded.acquire(state, binary) as server:
        ask(server.url, "SET kept 1")
    (file,) = (state / "redis" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"this is no append-only file\r\n" + file.read_bytes())

    with pytest.raises(EmbeddedServerError, match=r"did not start: .*(format|AOF|append)"):
        embedded.acquire(state, binary)

    assert embedded.running(state) is None
    assert file.read_bytes().startswith(b"this is no")  # untouched


def test_a_binary_that_does_not_do_is_named(state: Path) -> None:
    for wrong, why in (("/does/not/exist", "no such file"), (sys.executable, "does not answer")):
        with pytest.raises(EmbeddedServerError, match=why):
            embedded.acquire(state, Path(wrong))


def test_without_any_server_the_sentence_says_how_to_get_one(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(state))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"apt install redis-server.*oxherd\[embedded\]"):
        embedded.acquire(state)


def test_an_old_server_is_passed_over(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0:0 bits=64'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"6\.0\.16 is older than 6\.2"):
        embedded.acquire(state)

    fake.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0 bits=64'\n")
    assert find_binary(None, tmp_path).version == "6.2.14"
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(EmbeddedServerError, match="cannot read the data"):
        find_binary(None, tmp_path)
