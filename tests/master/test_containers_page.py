"""What docs/how-to/containers.md shows is accepted by Compose and Kubernetes, and works with a real master.

There is no container here: the commands, paths and ports of the manifests are tried on a master that is
started by the page's own entry point, with the page's own config.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from running import ROOT, Running, until

from supervisor.blocking import Queue
from supervisor.cli.status import PROVEN_WITHIN_S
from supervisor.config.load import load

PAGE = (ROOT / "docs/how-to/containers.md").read_text()
KUBERNETES = ("1.28", "1.37")  # the oldest and the newest whose schemas we have
PROCESSOR = """
from oxherd import processor

@processor("thumbnails")
def thumbnail(job):
    return job.id
"""


def block(language: str, has: str = "") -> str:
    """The page's one block of this language with these words in it."""
    (found,) = (each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if has in each)
    return found


CONFIG, DOCKERFILE = block("toml"), block("dockerfile")
COMPOSE, KUBERNETES_TEXT = block("yaml", "services:"), block("yaml", "apiVersion:")
WORKER = yaml.safe_load(COMPOSE)["services"]["worker"]
DEPLOYMENT = yaml.safe_load(KUBERNETES_TEXT)
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PROBES = [CONTAINER[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found[1])


# --- what others say of them ------------------------------------------------------------------------------


def test_compose_accepts_the_file():
    assert set(PyCompose.from_yaml(COMPOSE).service_names()) == {"redis", "worker"}
    for right, wrong in (
        ("stop_grace_period", "stop_grace_perod"),
        ("service_healthy", "healthy"),
        ("1g", "1x"),
    ):
        assert right in COMPOSE
        with pytest.raises(ValueError, match=r"services\.worker"):
            PyCompose.from_yaml(COMPOSE.replace(right, wrong))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_the_deployment(version: str):
    kubernetes_validate.validate(DEPLOYMENT, version, strict=True)
    for right, wrong in (("preStop", "prestop"), ("failureThreshold: 150", "failureThreshold: many")):
        assert right in KUBERNETES_TEXT
        broken = yaml.safe_load(KUBERNETES_TEXT.replace(right, wrong))
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, version, strict=True)


# --- what they say of us ----------------------------------------------------------------------------------


def test_the_grace_periods_are_longer_than_our_deadline(tmp_path: Path):
    (path := tmp_path / "oxherd.toml").write_text(CONFIG)
    deadline_s = load(path, {}, {}).config.stop.deadline_ms / 1000
    assert seconds(WORKER["stop_grace_period"]) > deadline_s
    assert POD["terminationGracePeriodSeconds"] > deadline_s
    assert seconds(WORKER["healthcheck"]["timeout"]) > PROVEN_WITHIN_S


def test_the_names_in_the_manifests_are_ours(tmp_path: Path):
    (path := tmp_path / "oxherd.toml").write_text(CONFIG)
    url = WORKER["environment"]["OXHERD_REDIS_URL"]
    assert load(path, WORKER["environment"], {}).config.redis.url == url
    assert [each["name"] for each in CONTAINER["env"]] == ["OXHERD_REDIS_URL"]
    (port,) = CONTAINER["ports"]
    assert CONFIG.count(f':{port["containerPort"]}"') == 1
    assert {each["httpGet"]["port"] for each in PROBES} == {port["name"]}
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert f"{CONFIG.partition('target = ')[2].split()[0].strip(chr(34))}.py" in DOCKERFILE


# --- a real master ----------------------------------------------------------------------------------------


class Container:
    """A master that was started as the image starts it."""

    def __init__(self, run: Running, env: dict[str, str], home: Path, port: int) -> None:
        self.run = run
        self._env = env
        self._home = home
        self._port = port

    def execute(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """As the runtime does it inside: nothing of the caller's."""
        assert words[0] == "oxherd"
        command = [sys.executable, "-m", "supervisor", *words[1:]]
        return subprocess.run(
            command, env=self._env, cwd=self._home, capture_output=True, text=True, timeout=30
        )

    def got(self, probe: dict[str, Any]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", probe["httpGet"]["path"])
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def container(redis_url: str, tmp_path: Path) -> Iterator[Container]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    home = tmp_path / "app"
    home.mkdir()
    (home / "thumbnails.py").write_text(PROCESSOR)
    place = f"0.0.0.0:{CONTAINER['ports'][0]['containerPort']}"
    assert place in CONFIG
    (home / "oxherd.toml").write_text(CONFIG.replace(place, f"127.0.0.1:{port}"))
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "PYTHONPATH": str(ROOT),
        "OXHERD_REDIS_URL": redis_url,
        "OXHERD_RUNTIME_DIR": str(tmp_path / "run"),  # this one's alone, as a container's would be
    }
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)
    command = [sys.executable, "-m", "supervisor", *json.loads(entry)[1:]]
    process = subprocess.Popen(command, env=env, cwd=home, stderr=subprocess.PIPE, text=True)
    try:
        yield Container(Running(process), env, home, port)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
def test_the_probes_the_health_check_and_prestop_do_what_the_page_says(container: Container, redis_url: str):
    run, (startup, live, ready) = container.run, PROBES
    check, quiet = WORKER["healthcheck"]["test"], CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert check[0] == "CMD"
    run.until("master.started")
    until(lambda: container.got(startup) == 200, "it has started up")
    assert (container.got(live), container.got(ready)) == (200, 200)
    well = container.execute(check[1:])
    assert well.returncode == 0, well.stderr
    with Queue("thumbnails", url=redis_url) as queue:
        queue.result(queue.add("thumbnail", {}), timeout_ms=20_000)

    told = container.execute(quiet)
    assert told.returncode == 0, told.stderr
    assert (container.got(live), container.got(ready)) == (200, 503), "no restart, and no traffic"
    sick = container.execute(check[1:])
    assert sick.returncode == 1 and "is quiet" in sick.stderr
    run.signal(signal.SIGTERM)
    assert run.ended() == 0, run.story()
