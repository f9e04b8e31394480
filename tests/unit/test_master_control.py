"""The control socket: who is heard, how long a line may be, and how long a client may take."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from supervisor.config.runtime import runtime_dirs, where_to_look
from supervisor.errors import ConfigError, MasterRefused, UsageError
from supervisor.master import control
from supervisor.master.control import LONGEST_LINE, MOST_CLIENTS, Control, own_dir


@pytest.fixture
async def opened(tmp_path):
    async def echo(asked):
        return asked

    async def refuse(asked):
        raise MasterRefused("not now")

    async def wrong(asked):
        raise UsageError("no such thing")

    async def broken(asked):
        raise KeyError("a bug")

    async def much(asked):
        return {"much": "x" * 8_000_000}

    verbs = {"echo": echo, "refuse": refuse, "wrong": wrong, "broken": broken, "much": much}
    place = tmp_path / ("a" * 90)  # longer than a unix address may be, with what stands before it
    place.mkdir(mode=0o700)
    made = Control(place / "1.sock", verbs)
    await made.open()
    yield made
    await made.close()


async def connect(opened: Control) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    fd = os.open(opened.path.parent, os.O_PATH)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/{opened.path.name}", limit=2**24)
    finally:
        os.close(fd)


async def say(opened: Control, *lines: bytes) -> list[dict]:
    reader, writer = await connect(opened)
    writer.writelines(lines)
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    writer.close()
    return answers


async def test_each_line_has_its_answer(opened):
    answers = await say(opened, b'{"do":"echo","a":1}\n', b'{"do":"refuse"}\n', b'{"do":"wrong"}\n')

    assert answers == [
        {"ok": True, "result": {"a": 1}},
        {"ok": False, "error": "not now", "usage": False},
        {"ok": False, "error": "no such thing", "usage": True},
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"[]\n",
        b"3\n",
        b"{}\n",
        b'{"do":3}\n',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b'{"do":"echo"}',
        b"x" * (LONGEST_LINE + 10) + b"\n",
        b"x" * (10 * LONGEST_LINE),
    ],
    ids=lambda line: repr(line[:12]),
)
async def test_a_malformed_or_oversized_line_gets_one_sentence_and_the_end(opened, line):
    answers = await say(opened, line, b'{"do":"echo"}\n' if line.endswith(b"\n") else b"")

    assert len(answers) == 1
    assert answers[0]["ok"] is False
    assert "\n" not in answers[0]["error"] and len(answers[0]["error"]) < 100
    assert await say(opened, b'{"do":"echo"}\n') == [{"ok": True, "result": {}}]


async def test_an_unknown_verb_is_told_which_there_are(opened):
    [answer] = await say(opened, b'{"do":"fly"}\n')
    assert answer["error"] == "there is no verb 'fly'; there are: broken, echo, much, refuse, wrong"


async def test_a_bug_in_an_answer_is_told_and_ends_nothing(opened):
    [first, second] = await say(opened, b'{"do":"broken"}\n', b'{"do":"echo"}\n')
    assert "please report" in first["error"]
    assert second["ok"]


async def test_who_says_nothing_and_who_does_not_read_are_let_go(opened, monkeypatch):
    monkeypatch.setattr(control, "FIRST_LINE_WITHIN_S", 0.05)
    monkeypatch.setattr(control, "TAKEN_WITHIN_S", 0.05)
    silent, its = await connect(opened)
    assert await silent.read() == b""
    its.close()

    deaf = socket.socket(socket.AF_UNIX)
    fd = os.open(opened.path.parent, os.O_PATH)
    deaf.connect(f"/proc/self/fd/{fd}/{opened.path.name}")
    os.close(fd)
    deaf.sendall(b'{"do":"much"}\n')
    async with asyncio.timeout(5):
        while not opened._clients:
            await asyncio.sleep(0.001)
        while opened._clients:
            await asyncio.sleep(0.001)
    deaf.close()


async def test_clients_are_so_many_and_no_more(opened):
    there = [await connect(opened) for _ in range(MOST_CLIENTS)]
    for reader, writer in there:
        writer.write(b'{"do":"echo"}\n')
        await reader.readline()

    [answer] = await say(opened, b"")

    assert "others talk to this master" in answer["error"]
    for _, writer in there:
        writer.close()


async def test_the_end_is_no_failure_while_somebody_is_connected(opened):
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    reader, writer = await connect(opened)
    writer.write(b'{"do":"echo"}\n')
    await reader.readline()

    await opened.close()

    assert await reader.read() == b""
    assert failures == []
    assert not opened.path.exists()
    writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to be refused")
async def test_another_user_is_refused_by_what_the_kernel_says_of_it(tmp_path_factory, opened):
    """Even where the directory has been opened to everybody."""
    opened.path.parent.chmod(0o755)
    opened.path.chmod(0o777)
    code = (
        "import os, socket, sys\n"
        "link = socket.socket(socket.AF_UNIX)\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "link.connect('1.sock')\n"
        "print(link.makefile().readline())"
    )
    argv = [sys.executable, "-c", code, str(opened.path.parent)]
    told = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=20)
    assert "not uid 65534" in json.loads(told.stdout)["error"], told.stderr


def test_the_directory_is_made_for_its_user_alone_and_an_open_one_is_refused(tmp_path):
    made = own_dir([tmp_path / "run"], named=True)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700

    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="open to nobody else"):
        own_dir([tmp_path / "open"], named=True)
    assert own_dir([tmp_path / "open", made], named=False) == made


def test_the_named_directory_is_the_only_one_and_others_come_in_their_order(tmp_path):
    named = {"OXHERD_RUNTIME_DIR": "/x", "XDG_RUNTIME_DIR": "/run/user/5"}
    assert [str(each) for each in runtime_dirs(named, tmp_path)] == ["/x"]
    assert where_to_look(named, tmp_path) == runtime_dirs(named, tmp_path)

    unit = {"RUNTIME_DIRECTORY": "/run/oxherd/mail", "XDG_RUNTIME_DIR": "/run/user/5"}
    found = [str(each) for each in runtime_dirs(unit, tmp_path)]
    assert found == ["/run/oxherd/mail", "/run/oxherd", "/run/user/5/oxherd", f"{tmp_path}/run"]
    assert "/run/gitlab" not in map(str, runtime_dirs({"RUNTIME_DIRECTORY": "/run/gitlab"}, tmp_path))


async def test_what_dead_masters_have_left_is_removed(opened, tmp_path):
    (opened.path.parent / "999999999.sock").touch()
    other = Control(opened.path.parent / "2.sock", {})
    await other.open()
    assert not (opened.path.parent / "999999999.sock").exists()
    await other.close()
