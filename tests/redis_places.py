"""Real servers in the places grown-ups put them: behind TLS and users, behind Sentinels, in a cluster.

Each ends what it started by pid and needs no redis-cli. A cluster's nodes and the servers behind Sentinels
listen on loopback ports of their own, or on the address they are given.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_stand_ins import free_port

HOST = "127.0.0.1"
SLOTS = 16_384


def wait_for(fact: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """Wait for a fact that a server tells; an error of the server is a no."""
    give_up_at = time.monotonic() + within_s
    last: Exception | None = None
    while time.monotonic() < give_up_at:
        try:
            if value := fact():
                return value
        except (redis.RedisError, OSError) as error:
            last = error
        time.sleep(0.01)
    raise AssertionError(f"in {within_s:g} s it did not happen: {what} ({last})")


class Node:
    """One server on a port of its own, which may be killed, frozen and started again."""

    def __init__(self, home: Path, *options: str, host: str = HOST, prefix: Sequence[str] = ()) -> None:
        self.host = host
        self.port = free_port()
        self.home = home / str(self.port)
        self.home.mkdir()
        self._command = [
            *prefix,
            "redis-server",
            *("--bind", host, "--port", str(self.port), "--dir", str(self.home), "--save", ""),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()

    def client(self, **login: Any) -> redis.Redis:
        return redis.Redis(
            self.host, self.port, retry=Retry(NoBackoff(), 0), socket_timeout=10, protocol=2, **login
        )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, *request: Any, **login: Any) -> Any:
        with contextlib.closing(self.client(**login)) as client:
            return client.execute_command(*request)


class Cluster:
    """Three masters that share the slots evenly; more nodes without slots may be added."""

    def __init__(self, home: Path, host: str = HOST, prefix: Sequence[str] = (), *options: str) -> None:
        self._make = lambda: Node(
            home,
            *(
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                str(free_port()),
            ),
            *("--cluster-require-full-coverage", "no", *options),
            host=host,
            prefix=prefix,
        )
        self.nodes = [self._make() for _ in range(3)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            wait_for(lambda node=node: node.ask("PING"), "a node is up")
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            bus = node._command[node._command.index("--cluster-port") + 1]
            self.nodes[0].ask("CLUSTER", "MEET", node.host, node.port, bus)
        for node in self.nodes:
            wait_for(lambda node=node: self.whole(node), "the nodes agree")

    def whole(self, node: Node) -> bool:
        slots = node.ask("CLUSTER", "SLOTS")
        return len(slots) == 3 and "cluster_state:ok" in str(node.ask("CLUSTER", "INFO"))

    def owner(self, slot: int) -> Node:
        for first, last, (_, port, *_), *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(slot)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


class Reshard:
    """The moving of one slot, step by step as `redis-cli --cluster reshard` does it."""

    def __init__(self, cluster: Cluster, slot: int, to: Node) -> None:
        self.cluster, self.slot, self.source, self.to = cluster, slot, cluster.owner(slot), to
        self._ids = {node.port: node.ask("CLUSTER", "MYID").decode() for node in (self.source, to)}

    def begin(self) -> None:
        self.to.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._ids[self.source.port])
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._ids[self.to.port])

    def move_keys(self, count: int) -> int:
        keys = self.source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if keys:
            self.source.ask("MIGRATE", self.to.host, self.to.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end(self) -> None:
        for node in (self.to, self.source, *self.cluster.nodes):
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self._ids[self.to.port])


class Sentinels:
    """A master, a replica and three Sentinels that watch them under the name `herd`."""

    def __init__(self, home: Path, *options: str) -> None:
        self.nodes = [Node(home, *options) for _ in range(2)]
        self.nodes[1]._command += ["--replicaof", HOST, str(self.nodes[0].port)]
        self.sentinels = [Node(home, "--sentinel") for _ in range(3)]
        for each in self.sentinels:
            file = each.home / "sentinel.conf"
            file.write_text(
                f"port {each.port}\nbind {HOST}\ndir {each.home}\n"
                f"sentinel monitor herd {HOST} {self.nodes[0].port} 2\n"
                "sentinel down-after-milliseconds herd 500\nsentinel failover-timeout herd 1000\n"
            )
            each._command = ["redis-server", str(file), "--sentinel"]

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"{HOST}:{each.port}" for each in self.sentinels) + "/herd"

    @property
    def master(self) -> Node:
        port = int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "herd")[1])
        return next(node for node in self.nodes if node.port == port)

    @property
    def replica(self) -> Node:
        return next(node for node in self.nodes if node is not self.master)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        wait_for(lambda: self.follows(self.nodes[1]), "the replica follows")
        for each in self.sentinels:
            each.start()
        for each in self.sentinels:
            wait_for(lambda each=each: self._sees_all(each), "the Sentinels see each other")

    def follows(self, replica: Node) -> bool:
        with contextlib.closing(replica.client()) as client:
            return client.info("replication").get("master_link_status") == "up"

    def _sees_all(self, sentinel: Node) -> bool:
        with contextlib.closing(sentinel.client()) as client:
            facts = client.sentinel_master("herd")
            return facts["num-other-sentinels"] == 2 and facts["num-slaves"] == 1

    def stop(self) -> None:
        for node in (*self.sentinels, *self.nodes):
            node.kill()


@contextlib.contextmanager
def standing(make: Callable[[Path], Any]) -> Iterator[Any]:
    """What `make` makes in a directory of its own, started; stopped in the end."""
    home = Path(tempfile.mkdtemp(prefix="oxherd-places-"))
    place = make(home)
    try:
        place.start()
        yield place
    except AssertionError:
        logs = [f"{log}:\n{log.read_text()[-2000:]}" for log in sorted(home.glob("*/log"))]
        print("\n".join(logs))
        raise
    finally:
        place.stop()
        shutil.rmtree(home, ignore_errors=True)


def certificates(home: Path, *names: str) -> dict[str, Path]:
    """An authority, and a key and a certificate it vouches for, for each of `names`; made by openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        text = "no openssl is installed, so TLS was not tried"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=home)

    new = (
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    )
    run(*new, "-subj", "/CN=the authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in names:
        alt = ("-addext", f"subjectAltName=DNS:{name},IP:{HOST}", "-addext", "basicConstraints=CA:FALSE")
        mine = (*new, "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}", *alt)
        run(*mine, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return {file.name: file for file in home.iterdir()}
