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
from typing import Any, NamedTuple

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


class Tls(NamedTuple):
    """Files of `certificates`, and the name of the certificate that a server shows."""

    files: dict[str, Path]
    name: str = "localhost"

    def options(self, port: int) -> list[str]:
        """Of a server that speaks TLS alone, and wants to see a certificate."""
        named = {"cert": f"{self.name}.pem", "key": f"{self.name}.key", "ca-cert": "ca.pem"}
        said = [
            word for what, file in named.items() for word in (f"--tls-{what}-file", str(self.files[file]))
        ]
        return ["--port", "0", "--tls-port", str(port), *said]

    @property
    def login(self) -> dict[str, Any]:
        return {
            "ssl": True,
            "ssl_ca_certs": str(self.files["ca.pem"]),
            "ssl_certfile": str(self.files["client.pem"]),
            "ssl_keyfile": str(self.files["client.key"]),
            "ssl_check_hostname": False,
        }

    @property
    def query(self) -> str:
        """What an address of ours says of it."""
        named = {"ca_certs": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
        return "&".join(f"ssl_{what}={self.files[file]}" for what, file in named.items())


class Node:
    """One server on a port of its own, which may be killed, frozen and started again.

    login   how a test logs in.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        host: str = HOST,
        prefix: Sequence[str] = (),
        tls: Tls | None = None,
        password: str | None = None,
    ) -> None:
        self.host = host
        self.port = free_port()
        self.home = home / str(self.port)
        self.home.mkdir()
        self.login = {} if tls is None else tls.login
        listen = ["--port", str(self.port)] if tls is None else tls.options(self.port)
        if password is not None:
            self.login["password"] = password
            listen += ["--requirepass", password, "--masterauth", password]
        self._command = [
            *prefix,
            "redis-server",
            *("--bind", host, *listen, "--dir", str(self.home), "--save", ""),
            # A replica waits for 5 s otherwise, and is not shown before it has heard something.
            *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()

    def client(self, **login: Any) -> redis.Redis:
        options = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 10, "protocol": 2, **self.login, **login}
        return redis.Redis(self.host, self.port, **options)

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

    def replication(self) -> dict[str, Any]:
        with contextlib.closing(self.client()) as client:
            return client.info("replication")


def _node_id(number: int) -> str:
    return f"{number + 1:040x}"


def follows(replica: Node) -> bool:
    return replica.replication().get("master_link_status") == "up"


class Cluster:
    """Three masters that share the slots evenly, each with a replica if that is wanted."""

    def __init__(
        self,
        home: Path,
        host: str = HOST,
        prefix: Sequence[str] = (),
        *options: str,
        replicas: bool = False,
        tls: Tls | None = None,
        password: str | None = None,
    ) -> None:
        more = () if tls is None else ("--tls-cluster", "yes", "--tls-replication", "yes")

        def make() -> Node:
            return Node(
                home,
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
                *("--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"),
                *(*more, *options),
                host=host,
                prefix=prefix,
                tls=tls,
                password=password,
            )

        self._tls, self._password = tls, password
        self.masters = [make() for _ in range(3)]
        self.replicas = [make() for _ in range(3)] if replicas else []
        self.nodes = [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        """Of the nodes that were masters first."""
        scheme = "redis+cluster" if self._tls is None else "rediss+cluster"
        return f"{scheme}://" + ",".join(f"{node.host}:{node.port}" for node in self.masters)

    def start(self) -> None:
        for node in self.nodes:
            self._introduce(node)
            node.start()
        for node in self.nodes:
            wait_for(lambda node=node: self.whole(node), "the nodes agree")
        for replica in self.replicas:
            wait_for(lambda replica=replica: follows(replica), "a replica has what its master has")

    def _introduce(self, node: Node) -> None:
        """What it would have written down, had it met the others already: asked to, they take ten seconds."""
        lines = []
        for number, each in enumerate(self.nodes):
            bus = each._command[each._command.index("--cluster-port") + 1]
            role, above, slots = "master", "-", f" {number * SLOTS // 3}-{(number + 1) * SLOTS // 3 - 1}"
            if each in self.replicas:
                role, above, slots = "slave", _node_id(number % 3), ""
            flags = f"myself,{role}" if each is node else role
            at = f"{each.host}:{each.port}@{bus}"
            lines.append(f"{_node_id(number)} {at} {flags} {above} 0 0 {number % 3 + 1} connected{slots}\n")
        (node.home / "nodes.conf").write_text("".join([*lines, "vars currentEpoch 3 lastVoteEpoch 0\n"]))

    def whole(self, node: Node) -> bool:
        slots = node.ask("CLUSTER", "SLOTS")
        with_replicas = all(len(each) == (4 if self.replicas else 3) for each in slots)
        return len(slots) == 3 and with_replicas and "cluster_state:ok" in str(node.ask("CLUSTER", "INFO"))

    def owner(self, slot: int) -> Node:
        return self._having(slot)[0]

    def replica(self, slot: int) -> Node:
        """The one of the slot's owner."""
        return self._having(slot)[1]

    def _having(self, slot: int) -> list[Node]:
        asked = next(node for node in self.nodes if node.process is not None)
        for first, last, *nodes in asked.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                ports = [port for _, port, *_ in nodes]
                found = [each for each in self.nodes if each.port in ports]
                return sorted(found, key=lambda each: ports.index(each.port))
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
        self.move_key(*keys)
        return len(keys)

    def move_key(self, *keys: str | bytes) -> None:
        if keys:
            password = self.to.login.get("password")
            login = () if password is None else ("AUTH", password)
            self.source.ask("MIGRATE", self.to.host, self.to.port, "", 0, 5000, *login, "KEYS", *keys)

    def end(self) -> None:
        for node in (self.to, self.source, *self.cluster.nodes):
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self._ids[self.to.port])


class Sentinels:
    """A master, a replica and three Sentinels that watch them under the name `herd`."""

    def __init__(
        self, home: Path, *options: str, tls: Tls | None = None, password: str | None = None
    ) -> None:
        more = () if tls is None else ("--tls-replication", "yes")
        self._tls = tls
        self.nodes = [Node(home, *more, *options, tls=tls, password=password) for _ in range(2)]
        self.nodes[1]._command += ["--replicaof", HOST, str(self.nodes[0].port)]
        self.sentinels = [Node(home, "--sentinel", tls=tls) for _ in range(3)]
        for each in self.sentinels:
            listen = ["--port", str(each.port)] if tls is None else [*tls.options(each.port), *more]
            lines = [
                *(
                    f"{name.removeprefix('--')} {value}"
                    for name, value in zip(*[iter(listen)] * 2, strict=True)
                ),
                *(f"bind {HOST}", f"dir {each.home}"),
                f"sentinel monitor herd {HOST} {self.nodes[0].port} 2",
                *([] if password is None else [f"sentinel auth-pass herd {password}"]),
                "sentinel down-after-milliseconds herd 500",
                "sentinel failover-timeout herd 1000",
            ]
            file = each.home / "sentinel.conf"
            file.write_text("\n".join(lines) + "\n")
            each._command = ["redis-server", str(file), "--sentinel"]

    @property
    def url(self) -> str:
        scheme = "redis+sentinel" if self._tls is None else "rediss+sentinel"
        return f"{scheme}://" + ",".join(f"{HOST}:{each.port}" for each in self.sentinels) + "/herd"

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
        wait_for(lambda: follows(self.nodes[1]), "the replica follows")
        for each in self.sentinels:
            each.start()
        for each in self.sentinels:
            wait_for(lambda each=each: self._sees_all(each), "the Sentinels see each other")

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
