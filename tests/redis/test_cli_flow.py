"""`oxherd flow` on a real server: a file of jobs, and the tree on the screen."""

from __future__ import annotations

import json

import pytest

from supervisor.cli import main

BOOK = {
    "name": "book",
    "queue": "books",
    "options": {"job_id": "B"},
    "children": [
        {"name": "page", "queue": "pages", "data": {"n": 1}, "options": {"job_id": "P1"}},
        {
            "name": "page",
            "queue": "pages",
            "options": {"job_id": "P2", "attempts": 3, "ignore_dependency_on_failure": True},
            "children": [{"name": "picture", "options": {"job_id": "I"}}],
        },
    ],
}


@pytest.fixture
def oxherd(redis_url, raw, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv, file=None):
        if file is not None:
            (tmp_path / "flow.json").write_text(json.dumps(file))
        capsys.readouterr()
        status = main(["flow", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_flow_is_added_from_a_file_and_shown_with_its_states(oxherd, raw):
    assert oxherd("add", "flow.json", file=BOOK) == (0, "B\n", "")
    raw.lrem("bull:pages:wait", 0, "P1")
    raw.zadd("bull:pages:failed", {"P1": 1})
    raw.hset("bull:pages:P1", "failedReason", "torn")

    status, told, _ = oxherd("show", "books", "B")

    assert status == 0
    assert sorted(told.splitlines()) == [
        "    pages/I  picture  waiting",
        "  pages/P1  page  failed: torn",
        "  pages/P2  page  waiting-children",
        "books/B  book  waiting-children",
    ]
    assert told.startswith("books/B")
    assert json.loads(raw.hget("bull:pages:P2", "opts"))["idof"] is True


def test_many_flows_stand_in_one_file_and_programs_get_one_object_a_job(oxherd):
    other = {"name": "leaflet", "queue": "leaflets", "options": {"job_id": "L"}}
    status, told, _ = oxherd("add", "flow.json", "--json", file=[BOOK, other])
    assert status == 0
    assert [json.loads(line) for line in told.splitlines()] == [
        {"queue": "books", "id": "B", "jobs": 4},
        {"queue": "leaflets", "id": "L", "jobs": 1},
    ]

    _, told, _ = oxherd("show", "books", "B", "--json", "--depth", "2")
    records = {record["id"]: record for record in map(json.loads, told.splitlines())}
    assert set(records) == {"B", "P1", "P2"}
    assert records["P2"]["more"] is True and records["P1"]["more"] is False
    assert records["B"]["parent"] is None and records["P1"]["parent"] == "bull:books:B"


def test_the_defaults_of_each_queue_are_those_of_the_config(oxherd, raw, tmp_path):
    (tmp_path / "oxherd.toml").write_text("[queue.pages.defaults]\nattempts = 5\n")
    oxherd("add", "flow.json", file=BOOK)

    opts = {job_id: json.loads(raw.hget(f"bull:pages:{job_id}", "opts")) for job_id in ("P1", "P2")}
    assert [opts["P1"]["attempts"], opts["P2"]["attempts"]] == [5, 3]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"name": "x"}, "says its queue"),
        ([], "there is no flow in the file"),
        ({"queue": "q"}, "the name is missing"),
        ({"name": "x", "queue": "q", "kids": []}, "it has no 'kids'"),
        ({"name": "x", "queue": "q", "children": {}}, "are a list"),
        ({"name": "x", "queue": "q", "options": {"atempts": 1}}, "did you mean 'attempts'?"),
        ({"name": "x", "queue": "a:b"}, "Queue name cannot contain :"),
        ("x", "an object with a name"),
    ],
)
def test_a_file_that_is_no_flow_is_refused_with_a_sentence(oxherd, raw, file, said):
    status, told, error = oxherd("add", "flow.json", file=file)
    assert (status, told) == (2, "")
    assert said in error and error.startswith("oxherd: ")
    assert raw.dbsize() == 0


def test_a_child_of_another_parent_is_said_and_nothing_is_added(oxherd, raw):
    oxherd("add", "flow.json", file=BOOK)
    before = raw.dbsize()

    thief = {"name": "t", "queue": "t", "children": [BOOK["children"][0]]}
    status, _, error = oxherd("add", "flow.json", file=thief)

    assert status == 1 and "cannot be replaced" in error
    assert raw.dbsize() == before


def test_a_job_that_is_not_there_is_said(oxherd):
    assert oxherd("show", "books", "17")[0] == 1
