"""The documentation is true: made pages are as the program is now, names exist, links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from msgspec import structs

import oxherd
import supervisor.blocking
import supervisor.client
from sandbox.job import Job as RunningJob
from supervisor.cli import SUBCOMMANDS
from supervisor.cli.family import Family
from supervisor.protocol.new_job import AddOptions

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
REMEDY = "run ./scripts/reference and commit docs/reference"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split(" | ")]
    for line in (REFERENCE / "node-api.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| Node ")
]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / "lib" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return load("reference")


@pytest.mark.parametrize(
    "page", ["api.md", "processors.md", "cli.md", "configuration.md", "log-events.md", "metrics.md"]
)
def test_a_page_is_what_the_program_says_of_itself_now(reference: ModuleType, page: str):
    committed = (REFERENCE / page).read_text(encoding="utf-8") if (REFERENCE / page).exists() else ""
    made = reference.PAGES[page]()
    if made != committed:
        differing = [line for line in made.splitlines() if line not in committed.splitlines()]
        pytest.fail(f"docs/reference/{page} is not up to date, {REMEDY}. New: {differing[:3]}")


def test_no_page_is_left_that_nobody_makes(reference: ModuleType):
    assert {path.name for path in REFERENCE.iterdir()} == {*reference.PAGES, "node-api.md"}


def test_every_name_people_import_is_in_the_reference():
    api = (REFERENCE / "api.md").read_text(encoding="utf-8")
    for name in {*oxherd.__all__, *supervisor.blocking.__all__} - {"main"}:
        assert re.search(rf"`{name}`|^##+ (\w+\.)*{name}$", api, re.MULTILINE), name


def test_everything_in_the_reference_has_a_word_said_about_it(reference: ModuleType):
    """A heading or a cell with nothing behind it is a public name without a docstring."""
    empty = []
    for page in reference.PAGES:
        text = (REFERENCE / page).read_text(encoding="utf-8")
        for heading, body in re.findall(r"^###? (\S.*)\n([^#]*?)(?=^#|\Z)", text, re.MULTILINE):
            if not re.sub(r"```.*?```", "", body, flags=re.DOTALL).strip() and "## " not in body:
                empty.append(f"{page}: {heading}")
        empty += [
            f"{page}: {line}" for line in text.splitlines() if re.fullmatch(r"\| `\w+` .*\|\s+\|", line)
        ]
    empty = [
        each
        for each in empty
        if not re.match(r"log-events.md: \| `\w+\.|.*: supervisor\.client\.listen$", each)
    ]
    assert not empty, "\n".join(["", *empty])


# --- docstrings as Markdown -------------------------------------------------------------------------------


def test_a_docstring_becomes_prose_lists_and_examples():
    words = load("reference_words")
    text = """Do a <thing> to `a<b>`.

        call("x")

        call("y")

    name        what it is,
                on two lines.
    one, two    both
    long_name,
    longer_name
                these.

    Prose
    again.
    """
    assert words.markdown(text).split("\n\n") == [
        "Do a \\<thing> to `a<b>`.",
        '```python\ncall("x")',
        'call("y")\n```',
        "- `name`: what it is, on two lines.\n- `one`, `two`: both\n- `long_name`, `longer_name`: these.",
        "Prose again.",
    ]


def test_a_list_in_a_docstring_that_cannot_be_read_is_an_error_and_no_nonsense():
    words = load("reference_words")
    with pytest.raises(ValueError, match="data, options what"):
        words.markdown("A thing.\n\nid            its id.\ndata, options what it holds.")


# --- node-api.md --------------------------------------------------------------------------------------------


def python_names() -> Iterator[str]:
    for _, ours, _ in ROWS:
        yield from re.findall(r"`([A-Za-z_][\w.]*)`", ours)


def commands() -> list[str]:
    return [found for *_, command in ROWS for found in re.findall(r"`(oxherd [^`]+)`", command)]


def test_each_row_has_a_counterpart_or_a_reason():
    assert len(ROWS) > 80
    for row in ROWS:
        assert len(row) == 3, row
        _, ours, _ = row
        assert re.match(r"No: \w", ours) or re.search(r"`[\w.]+`", ours), row


def resolve(name: str) -> Any:
    """What a name of the middle column is; raises when there is no such thing."""
    first, _, rest = name.partition(".")
    if first == "Queue" and rest:
        assert hasattr(supervisor.blocking.Queue, rest)
        return getattr(supervisor.client.Queue, rest)
    if first == "Job":
        return next(field for field in structs.fields(supervisor.client.Job) if field.name == rest)
    if first == "job":
        return getattr(RunningJob, rest)
    if first == "AddOptions":
        return AddOptions.__annotations__[rest]
    if rest:
        return getattr(importlib.import_module(f"supervisor.client.{first}"), rest)
    return getattr(oxherd, first)


# Words in the middle column that are no names: parameters of the name before them, fields of what it returns.
PARAMETERS = {
    "defaults": "Queue",
    "reset_attempts": "Queue.retry",
    "reset_started": "Queue.retry",
    "job_id": "manage.remove_deduplication",
    "concurrency": "processor",
    "backoff": "processor",
}
FIELDS = {"concurrency", "rate_max", "rate_duration_ms"}
NODES = {"resetAttemptsMade", "resetAttemptsStarted", "msgspec.structs.asdict", "Job"}


@pytest.mark.parametrize("name", sorted(set(python_names()) - NODES))
def test_a_name_of_ours_in_the_table_exists(name: str):
    if name in PARAMETERS:
        assert name in inspect.signature(resolve(PARAMETERS[name])).parameters
    elif name in FIELDS:
        meta = importlib.import_module("supervisor.protocol.commands.read_more").QueueMeta
        assert name in {field.name for field in structs.fields(meta)}
    else:
        assert resolve(name) is not None


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_a_command_in_the_table_exists(line: str):
    _, name, *rest = line.split()
    assert name in SUBCOMMANDS
    command: click.Command = getattr(importlib.import_module(f"supervisor.cli.{name}"), name)
    if isinstance(command, Family) and rest:
        command = command.commands[rest.pop(0)]
    options = {option for param in command.params for option in param.opts}
    assert set(rest) <= options


# --- all pages --------------------------------------------------------------------------------------------

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_how_to_is_run_by_a_test(page: Path):
    """By its path, or by its name in a list of pages that a test works through."""
    runs = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path == Path(__file__) or "node_modules" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        listed = re.search(
            r"^PAGES\b[^=]*= [(\[{][^)\]}]*\"" + re.escape(page.stem) + '"', text, re.MULTILINE
        )
        if f"how-to/{page.name}" in text.replace('" / "', "/") or listed:
            runs.append(path)
    assert runs, f"docs/how-to/{page.name} is run by no test: its blocks may be wrong and nobody would know"
    assert any("subprocess" in path.read_text() or "CliRunner" in path.read_text() for path in runs)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_of_a_page_is_broken(page: Path):
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = page if not file else page.parent / file
        missing = (
            anchor
            and found.exists()
            and found.suffix == ".md"
            and anchor not in anchors(found.read_text("utf-8"))
        )
        if not found.exists() or missing:
            broken.append(target)
    assert not broken


@pytest.mark.parametrize(
    "page", [page for page in DOCUMENTS if "docs" in page.parts], ids=lambda page: page.stem
)
def test_every_page_is_reached_from_the_readme(page: Path):
    """In the index, or from a page that is."""
    if page.parent.name == "decisions":
        return  # for developers, in the order of their numbers
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({page.relative_to(ROOT)})" in readme
