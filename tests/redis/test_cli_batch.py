"""`oxherd batch` on a real server; docs/how-to/batches.md runs one to its end."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import redis

from supervisor.cli import main


@pytest.fixture
def oxherd(redis_url: str, raw: redis.Redis, monkeypatch: Any, capsys: Any, tmp_path: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str, lines: str = '{"n": 1}\n\n"two"\n') -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode("utf-8", "surrogateescape")))
        )
        capsys.readouterr()
        status = main(["batch", "paint", "dot", "--jsonl", "-", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_batch_of_a_file_is_added_once(oxherd: Any, raw: redis.Redis) -> None:
    argv = ("--collect", "all", "--batch-id", "B", "--attempts", "3", "--priority", "4")
    assert oxherd(*argv) == (0, "B\n", "")
    assert oxherd(*argv, "--json") == (0, '{"queue":"paint","id":"B","items":2}\n', "")

    assert raw.smembers("bull:paint:B:dependencies") == {b"bull:paint:B-1-of-2", b"bull:paint:B-2-of-2"}
    assert raw.hmget("bull:paint:B-2-of-2", "name", "data", "priority") == [b"dot", b'"two"', b"4"]
    assert raw.hget("bull:paint:B", "name") == b"all"
    assert raw.zcard("bull:paint:prioritized") == 2


def test_without_an_end_in_time_the_wait_says_so(oxherd: Any, raw: redis.Redis) -> None:
    status, told, said = oxherd(
        "--collect", "all", "--batch-id", "B", "--chunk", "2", "--wait-timeout", "20ms"
    )
    assert (status, told) == (1, "")
    assert said.startswith("oxherd: batch paint/B of 2 items\n")
    assert raw.hget("bull:paint:B-1-of-1", "data") == b'[{"n":1},"two"]'


@pytest.mark.parametrize(
    ("argv", "lines", "words"),
    [
        ((), "1\n", ["'--collect'"]),
        (("--collect", "all"), "", ["stdin has no lines; nothing was added"]),
        (("--collect", "all"), "1\n{\n", ["line 2 of stdin", "none of its jobs was added"]),
        (("--collect", "all"), "1\n\udcff\n", ["line 2 of stdin"]),
        (("--collect", "all", "--chunk", "0"), "1\n", ["chunk"]),
        (("--collect", "all", "--on-failure", "shrug"), "1\n", ["--on-failure", "shrug"]),
        (("--collect", "all", "--batch-id", ""), "1\n", ["batch_id is empty"]),
        (("--collect", "all", "--batch-id", "17"), "1\n", ["cannot be integers"]),
        (("--collect", "all", "--backoff", "expo:1s"), "1\n", ["did you mean 'exponential'?"]),
        (("--collect", "all"), "1\n" * 10_001, ["10,001 jobs are too many", "chunk=2"]),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_a_sentence(
    oxherd: Any, raw: redis.Redis, argv: tuple[str, ...], lines: str, words: list[str]
) -> None:
    status, told, said = oxherd(*argv, lines=lines)
    assert (status, told) == (2, "")
    assert said.count("\n") == 1
    assert said.startswith("oxherd")
    for word in words:
        assert word in said
    assert raw.dbsize() == 0
