"""TLS with a private authority, users with few rights, and Sentinels or a cluster: all of it at once.

A master and a command are told by a config as docs/how-to/redis.md has it, producers by an address; then the
place changes under them. What is wrong is said in one sentence, and no password in it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_places import Cluster, Node, Reshard, Sentinels, Tls, certificates, follows, standing, wait_for
from running import ROOT, Running

from supervisor.blocking import Queue
from supervisor.transport.slots import slot_of

PAGE = ROOT / "docs/how-to/redis.md"
PREFIX = "{bull}"
KEEPER = "the-keeper"  # the password of whoever keeps the servers, and of the servers themselves


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Ours, and among the files a certificate that another authority has made."""
    found = certificates(tmp_path_factory.mktemp("certificates"), "localhost", "client", "elsewhere")
    other = certificates(tmp_path_factory.mktemp("others"), "stranger")
    return Tls({**other, **found})


@pytest.fixture(scope="module")
def cluster(tls: Tls) -> Iterator[Cluster]:
    with standing(lambda home: Cluster(home, tls=tls, password=KEEPER)) as cluster:
        welcome(cluster.nodes, "+cluster|slots")
        yield cluster


@pytest.fixture(scope="module")
def sentinels(tls: Tls) -> Iterator[Sentinels]:
    with standing(lambda home: Sentinels(home, tls=tls, password=KEEPER)) as sentinels:
        welcome(sentinels.nodes)
        for each in sentinels.sentinels:
            rights = said("At the Sentinels their user needs `(.+?)`")
            each.ask("ACL", "SETUSER", "watcher", "reset", "on", ">hush", *rights)
        yield sentinels


def said(pattern: str) -> list[str]:
    """The words of the page, so that they are tried."""
    found = re.search(pattern, PAGE.read_text(), re.MULTILINE)
    assert found, f"docs/how-to/redis.md does not say {pattern}"
    return found[1].split()


def welcome(nodes: list[Node], *more: str) -> None:
    """Users with the rights that the page gives them, for our prefix."""
    for node in nodes:
        for user in ("oxherd", "producer"):
            rule = [word.replace("bull:", f"{PREFIX}:") for word in said(rf"^user {user} (.+)$")]
            node.ask("ACL", "SETUSER", user, "reset", *rule, *more)
        node.ask("ACL", "LOG", "RESET")


def config(home: Path, tls: Tls, **changes: str) -> Path:
    """What a config says of a Redis like this."""
    (home / "password").write_text("secret\n")
    settings = {
        "user": "oxherd",
        "password_file": str(home / "password"),
        "ca_file": str(tls.files["ca.pem"]),
        "cert_file": str(tls.files["client.pem"]),
        "key_file": str(tls.files["client.key"]),
        "prefix": PREFIX,
    } | changes
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    file = home / "oxherd.toml"
    file.write_text("\n".join(["[redis]", *lines, ""]))
    return file


def command(file: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OXHERD_")}
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *words, "--redis", url, "--config", str(file)],
        cwd=ROOT / "tests/processors",
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def producer(url: str, tls: Tls, more: str = "") -> Queue:
    at = url.replace("://", "://producer:secret@")
    return Queue("work", url=f"{at}?{tls.query}{more}", prefix=PREFIX)


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    place: Any = request.getfixturevalue(request.param)
    for node in place.nodes:
        if node.replication()["role"] == "master":
            node.ask("FLUSHALL")
    url: str = place.url
    return url


@pytest.mark.parametrize("redis_url", ["cluster"], indirect=True)
def test_in_a_cluster_a_master_with_few_rights_follows_a_moving_slot(
    cluster: Cluster, redis_url: str, tls: Tls, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    file = config(tmp_path, tls)
    running = oxherd("--config", str(file), "--stalled-interval", "200ms")
    running.until("master.started")
    added = command(file, redis_url, "add", "work", "x", '{"do": "echo"}', "--wait")
    assert (added.returncode, added.stdout) == (0, '{"do": "echo"}\n'), added.stderr
    slot = slot_of(PREFIX)
    with producer(redis_url, tls) as queue:
        queue.add("work", {"do": "nothing"})
        other = next(node for node in cluster.nodes if node is not cluster.owner(slot))
        reshard = Reshard(cluster, slot, other)
        reshard.begin()
        assert queue.counts()["failed"] == 0
        while reshard.move_keys(100):
            assert sum(queue.counts().values()) == 2
        reshard.end()
        queue.add("work", {"do": "nothing"})
        wait_for(lambda: queue.counts()["completed"] == 3, "all are done")
    hosts = command(file, redis_url, "status", "--hosts")
    assert hosts.returncode == 0, hosts.stderr

    assert [node.ask("ACL", "LOG") for node in cluster.nodes] == [[]] * 3
    assert not running.events("heartbeat.failed") and not running.events("redis.unsafe")
    assert "secret" not in running.story() + hosts.stdout


@pytest.mark.parametrize("redis_url", ["sentinels"], indirect=True)
def test_behind_sentinels_a_master_with_few_rights_follows_a_failover(
    sentinels: Sentinels, redis_url: str, tls: Tls, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    (tmp_path / "watching").write_text("hush\n")
    file = config(tmp_path, tls, sentinel_user="watcher", sentinel_password_file=str(tmp_path / "watching"))
    running = oxherd("--config", str(file))
    running.until("master.started")
    with producer(redis_url, tls, "&sentinel_username=watcher&sentinel_password=hush") as queue:
        queue.add("work", {"do": "nothing"})
        wait_for(lambda: queue.counts()["completed"] == 1, "it is done")
        old, new = sentinels.master, sentinels.replica
        offset = old.replication()["master_repl_offset"]
        wait_for(
            lambda: follows(new) and new.replication()["slave_repl_offset"] >= offset, "it is replicated"
        )
        old.kill()
        wait_for(lambda: sentinels.master is new, "the Sentinels name another master")
        added = command(file, redis_url, "add", "work", "x", '{"do": "echo"}', "--wait")
        assert (added.returncode, added.stdout) == (0, '{"do": "echo"}\n'), added.stderr
        assert queue.counts()["completed"] == 2
    assert [each.ask("ACL", "LOG") for each in (new, *sentinels.sentinels)] == [[]] * 4
    assert "secret" not in running.story() and "hush" not in running.story()


MISTAKES = {
    "another authority": (
        {"ca_file": "elsewhere.pem"},
        r"certificate is not accepted \(.+\); who vouches for it is named by \[redis\] ca_file",
    ),
    "a certificate of another authority": (
        {"cert_file": "stranger.pem", "key_file": "stranger.key"},
        # "may" where it ended the connection so soon that its alert was lost
        r"(does|may) not accept our certificate \(\[redis\] cert_file\)",
    ),
    "a wrong password": ({"password_file": "wrong"}, r"refused the user or the password"),
    "no such user": ({"user": "nobody"}, r"refused the user or the password"),
    "no certificate": (
        {"cert_file": None, "key_file": None},
        r"wants? to see a certificate of ours, as",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("place", ["cluster", "sentinels"])
def test_what_is_wrong_is_one_sentence_at_once(
    place: str, mistake: str, tls: Tls, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found: Any = request.getfixturevalue(place)
    changes, told = MISTAKES[mistake]
    file = config(tmp_path, tls)
    (tmp_path / "wrong").write_text("sesame\n")
    (tmp_path / "watching").write_text("hush\n")
    text = file.read_text()
    if place == "sentinels":
        text += f'sentinel_user = "watcher"\nsentinel_password_file = "{tmp_path / "watching"}"\n'
    for name, value in changes.items():
        text = re.sub(rf"^{name} = .+\n", "", text, flags=re.MULTILINE)
        if value is not None:
            value = str({**tls.files, "wrong": tmp_path / "wrong"}.get(value, value))
            text += f'{name} = "{value}"\n'
    file.write_text(text)
    words = ("run", "deeds", "--queue", "work") if mistake == "no such user" else ("status", "work")
    done = command(file, found.url, *words)
    assert done.returncode == 3
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # `run` has a log too
    assert len(sentences) == 1 and re.search(told, sentences[0]), done.stderr
    assert not re.search("sesame|hush|secret", done.stderr)


def test_a_right_that_is_missing_at_the_sentinels_is_named(
    sentinels: Sentinels, tls: Tls, tmp_path: Path
) -> None:
    for each in sentinels.sentinels:
        each.ask("ACL", "SETUSER", "blind", "reset", "on", ">hush", "+auth", "+sentinel|masters")
    (tmp_path / "watching").write_text("hush\n")
    file = config(tmp_path, tls, sentinel_user="blind", sentinel_password_file=str(tmp_path / "watching"))
    done = command(file, sentinels.url, "status", "work")
    assert done.returncode == 3
    assert re.search(
        r"NOPERM .*'sentinel\|get-master-addr-by-name'.*docs/how-to/redis.md names", done.stderr
    ), done.stderr


@pytest.mark.parametrize(
    ("right", "told"),
    [
        ("-evalsha", r"NOPERM .*'evalsha' command.*docs/how-to/redis.md has an ACL line"),
        ("-xadd", r"(?i)xadd.*docs/how-to/redis.md has an ACL line|executing the script.*redis.md.*ACL LOG"),
        ("-exists", r"NOPERM .*'exists' command.*docs/how-to/redis.md has an ACL line"),
    ],
)
def test_a_right_that_is_missing_in_the_cluster_is_named(
    right: str, told: str, cluster: Cluster, tls: Tls, tmp_path: Path
) -> None:
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "oxherd", right)
    try:
        done = command(config(tmp_path, tls), cluster.url, "add", "work", "x")
        assert done.returncode in (1, 3) and done.stderr.count("\n") == 1
        assert re.search(told, done.stderr), done.stderr
    finally:
        welcome(cluster.nodes, "+cluster|slots")
