"""`oxherd run`: what the command line and the config make of each other, before a master exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import main
from supervisor.master.plan import Plan, Target
from supervisor.master.spawning import TemplateProcess

TWO_QUEUES = """
[queue.mail]
target = ["letters:send", "letters:check"]
[queue.work]
target = "pictures"
"""


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Plan]:
    """The plan that a command line leads to."""
    plans: list[Plan] = []

    def keep(plan: Plan, process: TemplateProcess) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr("supervisor.master.main.run_master", keep)
    monkeypatch.setenv("OXHERD_REDIS_URL", "redis://somewhere:1234/5")
    monkeypatch.chdir(tmp_path)

    def run(*argv: str, config: str = "") -> Plan:
        (tmp_path / "oxherd.toml").write_text(config)
        assert main(["run", *argv]) == 0
        return plans.pop()

    return run


def test_a_target_and_its_queue(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "pictures:resize",
        "--queue",
        "work",
        "--concurrency",
        "3",
        "--dead-letter",
        "dead",
        "--timeout",
        "1m",
        "--prefix",
        "b",
    )
    assert plan.targets == (Target(name="pictures:resize", queue="work"),)
    assert plan.only_queues == ("work",)
    assert plan.concurrency == 3
    assert plan.dead_letter == "dead"
    assert plan.config.policy.timeout_ms == 60_000
    assert plan.config.redis.prefix == "b"
    assert (plan.address.host, plan.address.port, plan.address.db) == ("somewhere", 1234, 5)
    assert not plan.burst


def test_without_a_target_the_config_says_it(planned: Callable[..., Plan]) -> None:
    plan = planned(config=TWO_QUEUES)
    assert plan.targets == (
        Target(name="letters:send", queue="mail"),
        Target(name="letters:check", queue="mail"),
        Target(name="pictures", queue="work"),
    )
    assert plan.only_queues == ()

    plan = planned("--queue", "work", config=TWO_QUEUES)
    assert plan.targets == (Target(name="pictures", queue="work"),)
    assert plan.only_queues == ("work",)


def test_a_target_of_the_command_line_has_the_queue_of_the_config(planned: Callable[..., Plan]) -> None:
    assert planned("letters:send", config=TWO_QUEUES).targets == (Target(name="letters:send", queue="mail"),)
    assert planned("letters:send", "letters:send").targets == (Target(name="letters:send", queue=None),)
    plan = planned("letters:send", "--queue", "other", config=TWO_QUEUES)
    assert plan.targets == (Target(name="letters:send", queue="other"),)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["there is nothing to run", "[queue.NAME]"]),
        (["a:b", "--queue", "wo:rk"], ["Queue name cannot contain :"]),
        (["a:b", "--concurrency", "0"], ["--concurrency"]),
        (["a:b", "--dead-letter", "wo:rk"], ["Queue name cannot contain :"]),
        (
            ["a:b", "--lock-duraton", "30s"],
            ["no such option '--lock-duraton'", "did you mean '--lock-duration'?"],
        ),
        (["a:b", "--lock-duration", "30"], ["--lock-duration", "is no duration"]),
        (["a:b", "--lock-duration", "1ms"], ["--lock-duration", "less than 1s"]),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_sentence(
    argv: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", "redis://127.0.0.1:1")
    assert main(["run", *argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for word in words:
        assert word in said


def test_a_working_directory_that_was_removed_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert main(["run", "a:b", "--queue", "q"]) == 2
    assert capsys.readouterr().err.startswith("oxherd: the working directory was removed")


def test_an_unknown_option_in_the_config_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oxherd.toml").write_text('[lock]\nduraton = "30s"\n')
    assert main(["run", "a:b"]) == 2
    assert "did you mean 'duration'?" in capsys.readouterr().err


def test_on_another_system_a_container_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert main(["run", "a:b"]) == 2
    assert "oxherd run needs Linux" in (said := capsys.readouterr().err)
    assert "docker run" in said


def test_in_a_service_no_private_server_is_used_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OXHERD_REDIS_URL", raising=False)
    monkeypatch.setenv("OXHERD_EMBEDDED_STATE_DIR", str(tmp_path / "state"))
    for argv in (["run", "a:b"], ["add", "work", "a"], ["status"]):
        assert main(argv) == 2
        said: Any = capsys.readouterr().err
        assert "OXHERD_REDIS_URL" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_a_queue_may_be_named_again(planned: Callable[..., Plan]) -> None:
    """A plain function serves each of them; of the config both are served, in its order."""
    plan = planned("pictures:resize", "--queue", "work", "--queue", "mail", "--queue", "work")
    assert plan.targets == (
        Target(name="pictures:resize", queue="work"),
        Target(name="pictures:resize", queue="mail"),
    )
    assert plan.only_queues == ("work", "mail")

    plan = planned("--queue", "work", "--queue", "mail", config=TWO_QUEUES + '[queue.other]\ntarget = "x"\n')
    assert [target.queue for target in plan.targets] == ["mail", "mail", "work"]
