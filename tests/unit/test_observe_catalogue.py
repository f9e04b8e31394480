from __future__ import annotations

import ast
import re
from pathlib import Path

from supervisor.observe import log
from supervisor.observe.catalogue import CATALOGUE, mistakes
from supervisor.observe.metrics import Counters

ROOT = Path(__file__).parents[2]


def log_calls():
    """(where, level, event or None, keys given by name) of every call of a logger named `log`."""
    for path in sorted((ROOT / "supervisor").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if (
                ast.unparse(node.func.value) not in ("log", "_log", "self._log")
                or node.func.attr not in log.LEVELS
            ):
                continue
            keys = {keyword.arg for keyword in node.keywords if keyword.arg}
            for event in events_of(node.args[0]):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, event, keys


def events_of(argument):
    """The events a first argument may be: a literal, or a choice of two."""
    if isinstance(argument, ast.IfExp):
        return [*events_of(argument.body), *events_of(argument.orelse)]
    return [argument.value if isinstance(argument, ast.Constant) else None]


def test_every_log_call_is_in_the_catalogue_with_its_level_and_keys():
    intruders = []
    for where, level, event, keys in log_calls():
        known = CATALOGUE.get(event)
        if known is None:
            intruders.append(f"{where}: the event {event!r} is not in the catalogue")
            continue
        if level != known.level:
            intruders.append(f"{where}: {event} is logged as {level}; the catalogue says {known.level}")
        intruders += [f"{where}: {sentence}" for sentence in mistakes(event, dict.fromkeys(keys))]
    assert not intruders, "\n" + "\n".join(intruders)


def test_every_event_of_the_catalogue_is_logged_somewhere():
    logged = {event for _, _, event, _ in log_calls()} | {"log.dropped"}
    assert set(CATALOGUE) - logged == set()


def test_events_are_named_noun_and_participle_and_keys_carry_units():
    for name, event in CATALOGUE.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert event.level in log.LEVELS
        assert event.doc.endswith(".")
        assert not {key for key in event.keys if key.endswith(("_seconds", "_time", "duration"))}


def test_job_data_has_no_key_in_any_event():
    for event in CATALOGUE.values():
        assert not event.keys & {"data", "result", "value", "progress", "opts"}


def test_what_is_wrong_with_a_line_is_said():
    assert mistakes("job.completed", {"queue": "q", "ran_ms": 3}) == []
    assert mistakes("job.completed", {"colour": 1}) == ["'job.completed' has no key 'colour'"]
    assert mistakes("cow.jumped", {}) == ["'cow.jumped' is not in the catalogue"]


def test_counters_count_what_is_logged_by_queue():
    counters = Counters()
    with log.hooked(counters):
        logger = log.get("test")
        for queue in ("a", "a", "b"):
            logger.debug("job.completed", queue=queue)
        logger.debug("master.started")
        logger.debug("not.known")

    assert counters.of("job.completed") == 3
    assert counters.of("job.completed", "a") == 2
    assert counters.of("job.failed") == 0
    assert counters.snapshot() == {"job.completed": {"a": 2, "b": 1}, "master.started": {"": 1}}
