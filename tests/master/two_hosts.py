"""The scene of test_two_hosts: run alone in a network namespace, it prints what it saw as one JSON object.

This namespace has a cluster of three nodes; two more, joined to it by a cable each, have a master each. One
cable is cut while both work, and joined again when the other has done the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from redis_places import Cluster, standing, wait_for  # noqa: E402

from supervisor.blocking import Queue  # noqa: E402

JOBS = 60
PREFIX = "{bull}"


def ip(*words: object, of: int | None = None) -> None:
    inside = () if of is None else ("nsenter", "--target", str(of), "--net")
    subprocess.run([*inside, "ip", *map(str, words)], check=True)


class Host:
    """A network namespace with a cable to ours; it lives as long as the process that holds it."""

    def __init__(self, number: int) -> None:
        self.ours, self.net = f"cable{number}", f"10.77.{number}"
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        own = os.stat("/proc/self/ns/net").st_ino
        wait_for(
            lambda: os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino != own, "it has a network of its own"
        )
        pid = self.holder.pid
        ip("link", "add", self.ours, "type", "veth", "peer", "name", "eth0", "netns", pid)
        ip("addr", "add", f"{self.net}.1/24", "dev", self.ours)
        ip("link", "set", self.ours, "up")
        ip("addr", "add", f"{self.net}.2/24", "dev", "eth0", of=pid)
        ip("link", "set", "eth0", "up", of=pid)
        ip("route", "add", "default", "via", f"{self.net}.1", of=pid)
        self.master: subprocess.Popen[bytes] | None = None
        self.log = Path(tempfile.mkstemp(prefix="oxherd-host-")[1])

    def run_master(self, url: str) -> None:
        timing = ("--lock-duration", "1500ms", "--stalled-interval", "500ms", "--stop-deadline", "3s")
        run = ("run", "deeds", "--queue", "work", "--redis", url, "--prefix", PREFIX)
        command = [sys.executable, "-m", "supervisor", *run, "--concurrency", "2", "--log-format", "json"]
        with self.log.open("wb") as log:
            self.master = subprocess.Popen(
                ["nsenter", "--target", str(self.holder.pid), "--net", *command, *timing],
                cwd=TESTS / "processors",
                env={
                    **os.environ,
                    "PYTHONPATH": str(TESTS.parent),
                    "OXHERD_RUNTIME_DIR": str(self.log) + ".d",
                },
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [line for line in map(read, lines) if line.get("event") == name]

    def close(self) -> None:
        if self.master is not None:
            self.master.terminate()
            try:
                self.master.wait(15)
            except subprocess.TimeoutExpired:
                self.master.kill()
        self.holder.kill()
        self.holder.wait()
        self.log.unlink()


def read(line: str) -> dict[str, Any]:
    return json.loads(line) if line.startswith("{") else {}


def play(cluster: Cluster, hosts: list[Host]) -> dict[str, Any]:
    for host in hosts:
        host.run_master(cluster.url)
    for host in hosts:
        wait_for(lambda host=host: host.events("master.started"), f"a master starts: {host.log.read_text()}")
    with Queue("work", url=cluster.url, prefix=PREFIX) as queue:
        added = [queue.add("work", {"do": "sleep", "s": 0.05}).id for _ in range(JOBS)]
        held = [queue.add("work", {"do": "sleep", "s": 2.0}, lifo=True).id for _ in range(4)]
        wait_for(lambda: all(queue.state(each) == "active" for each in held), "both masters hold two jobs")
        ip("link", "set", hosts[1].ours, "down")
        wait_for(lambda: queue.counts()["completed"] == JOBS + len(held), "the other does the rest", 60)
        ip("link", "set", hosts[1].ours, "up")
        wait_for(lambda: hosts[1].events("redis.connected"), "the lost one is back", 30)
        more = [queue.add("work", {"do": "sleep", "s": 0.2}).id for _ in range(12)]
        wait_for(lambda: queue.counts()["completed"] == JOBS + len(held) + len(more), "both do the rest", 60)
        wait_for(
            lambda: sum(len(host.events("job.completed")) for host in hosts) >= JOBS + len(held) + len(more),
            "their logs tell of all",
        )
        return {
            "counts": queue.counts(),
            "jobs": [added, held, more],
            "completed": [[each["job_id"] for each in host.events("job.completed")] for host in hosts],
            "recovered": [len(host.events("stalled.recovered")) for host in hosts],
            "locks_lost": [len(host.events("lock.lost")) for host in hosts],
        }


def main() -> None:
    ip("link", "set", "lo", "up")
    hosts: list[Host] = []
    try:
        hosts += [Host(1)]
        hosts += [Host(2)]
        with standing(lambda home: Cluster(home, "10.77.1.1", (), "--protected-mode", "no")) as cluster:
            json.dump(play(cluster, hosts), sys.stdout)
    finally:
        for host in hosts:
            host.close()


if __name__ == "__main__":
    main()
