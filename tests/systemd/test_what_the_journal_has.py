"""What systemd's journal keeps of a service: its lines, with the priorities that `journalctl -p` asks for."""

from __future__ import annotations

import json
from typing import Any

from services import Machine, Service, command

from supervisor.blocking import Queue

PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3"}


def entries(run: Service, *options: str) -> list[dict[str, Any]]:
    """What the master has said, as the journal has it; not what systemd says of its unit."""
    found = map(json.loads, run.journal("--output=json", *options).splitlines())
    return [each for each in found if each.get("SYSLOG_IDENTIFIER") == "oxherd"]


def test_errors_are_found_by_their_priority_and_nothing_else_with_them(
    machine: Machine, service: tuple[Service, Queue]
):
    run, _ = service
    machine.release(None)
    assert command("systemctl", "reload", run.name, check=False).returncode == 1
    machine.release(1)
    run.until("reload.failed")

    told = run.journal("--priority=err")
    assert "reload.failed" in told
    assert "reload.requested" not in told and "master.started" not in told
    errors = entries(run, "--priority=err")
    lines = [json.loads(each["MESSAGE"]) for each in errors]
    assert {(each["PRIORITY"], line["level"]) for each, line in zip(errors, lines, strict=True)} == {
        ("3", "error")
    }
    failed = lines[-1]
    assert failed["event"] == "reload.failed"
    assert failed["logger"] == "reloading" and failed["generation"] >= 2
    assert "nothing that is defined" in failed["error"] or "SyntaxError" in failed["error"]


def test_every_line_has_the_priority_of_its_level_and_our_fields(service: tuple[Service, Queue]):
    run, _ = service
    of_level: dict[str, set[str]] = {}
    for each in entries(run):
        try:
            line = json.loads(each["MESSAGE"])
        except (TypeError, ValueError):
            continue  # a traceback, or bytes
        assert line.keys() >= {"event", "logger", "level", "timestamp"}, line
        assert each["_SYSTEMD_UNIT"] == run.name
        of_level.setdefault(line["level"], set()).add(each["PRIORITY"])
    assert {level: {PRIORITIES[level]} for level in of_level} == of_level
    assert {"debug", "info"} <= of_level.keys()
    assert run.journal("--priority=info").count("reload.requested") == len(run.events("reload.requested"))
