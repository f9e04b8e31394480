"""What docs/how-to/reload.md and docs/how-to/control.md show is what is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from running import ROOT, TESTS, title_of, until

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

RELOAD = ROOT / "docs/how-to/reload.md"
CONTROL = ROOT / "docs/how-to/control.md"
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    link.sendall(sys.argv[2].encode() + b"\\n")
    print(link.makefile().readline())
"""


@pytest.fixture
def thumbnails(oxherd, ask, tmp_path, monkeypatch):
    """A master of the page's queue, in a directory of its own."""
    source = (TESTS / "processors" / "release.py").read_text()
    (tmp_path / "shop.py").write_text(source.replace('processor("work")', 'processor("thumbnails")'))
    (tmp_path / "release").write_text("one")
    (tmp_path / "oxherd.toml").write_text('[queue.thumbnails]\ntarget = "shop"\nconcurrency = 4\n')
    monkeypatch.chdir(tmp_path)
    running = oxherd(target="shop", queue="thumbnails", cwd=tmp_path)
    running.until("master.started")
    return running


def test_the_lines_of_the_page_on_reloading_are_those_that_are_printed(thumbnails, ask, tmp_path):
    page = RELOAD.read_text()
    (tmp_path / "oxherd.toml").write_text(
        '[lock]\nduration = "20s"\n[queue.thumbnails]\ntarget = "shop"\nconcurrency = 2\n'
    )

    said = ask("ctl", "reload")
    for line in said.splitlines():
        assert re.sub(r"\d+ ms", "412 ms", line) in page
    until(lambda: len(thumbnails.runners()) == 2, "two are left")
    titles = {title_of(each).split(" idle")[0].strip() for each in thumbnails.family()}
    assert "oxherd: template g2 shop" in titles and "oxherd: template g2 shop" in page
    assert all(re.fullmatch(r"oxherd: (template g2 shop|runner \d g2)", each) for each in titles)

    (tmp_path / "shop.py").write_text("import pillow_is_not_here\n")
    refused = ask("ctl", "reload", status=1)
    for part in (
        "oxherd: not reloaded, generation ",
        " goes on: cannot load shop",
        "No job was touched. What it said:",
    ):
        assert part in refused and part in page
    assert "raised ModuleNotFoundError: No module named" in refused


def test_every_verb_of_the_page_on_control_does_what_it_says(thumbnails, ask, tmp_path):
    page = CONTROL.read_text()
    verbs = re.findall(r"^\| (`.*?`)(?:, (`.*?`))? \|", page, re.MULTILINE)
    lines = [each.strip("`").replace("[QUEUE]", "thumbnails") for pair in verbs for each in pair if each]
    assert {line.split()[0] for line in lines} == set(
        "quiet resume scale reload recycle stop snapshot".split()  # noqa: SIM905
    )
    question, answer = re.search(r"^\$ echo '(.*?)' .*\n(.*)$", page, re.MULTILINE).groups()
    argv = [sys.executable, "-c", ASK, str(tmp_path / "run" / f"{thumbnails.pid}.sock"), question]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert json.loads(done.stdout) == json.loads(answer), done.stderr
    for line in sorted(lines, key=lambda line: line == "stop"):
        ask("ctl", *line.split())
    assert thumbnails.ended() == 0


def test_the_page_names_every_verb_of_the_socket_and_each_refuses_what_it_does_not_know(thumbnails, tmp_path):
    def said(question: dict[str, object]) -> str:
        argv = [
            sys.executable,
            "-c",
            ASK,
            str(tmp_path / "run" / f"{thumbnails.pid}.sock"),
            json.dumps(question),
        ]
        answer = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout)
        assert not answer["ok"], answer
        return answer["error"]

    verbs = said({"do": "nonsense"}).partition("there are: ")[2].split(", ")
    page = CONTROL.read_text()
    assert len(verbs) >= 11
    for verb in verbs:
        assert re.search(rf"`{verb}[` ]", page), verb
        assert "takes no 'nonsense'" in said({"do": verb, "nonsense": 1})
    assert said({"do": "look", "dear": 1}) == "dear must be of the kind bool"
    nobody = {"queue": "thumbnails", "id": "77"}
    assert said({"do": "cancel", **nobody}) == "queue 'thumbnails' has no job '77'; nothing was cancelled"
    assert said({"do": "stack", "queue": "thumbnails"}) == "stack needs the queue and the id of a job"
