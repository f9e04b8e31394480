"""What is installed has every module that the command and the processors import."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from running import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]


def test_the_wheel_has_our_packages_and_the_module_that_users_import():
    """`packages` lets nothing in besides itself, whatever `include` says, so a module is named by force."""
    assert sorted(WHEEL["packages"]) == sorted(each.parent.name for each in ROOT.glob("s*/py.typed"))
    assert WHEEL["force-include"]["oxherd.py"] == "oxherd.py"
    assert "include" not in WHEEL


def test_the_command_starts_a_module_that_is_installed():
    module, _, function = SETTINGS["project"]["scripts"]["oxherd"].partition(":")
    assert f"{module}.py" in WHEEL["force-include"]
    assert function in (ROOT / f"{module}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["README.md", "docs/**/*.md", "oxherd.py", "supervisor/**/*.py"])
def test_nobody_is_told_to_install_by_name_what_is_nowhere_by_that_name(path):
    """It would fail, or be a stranger's. An extra of what is there already is found by its name."""
    if "a release on PyPI" not in (ROOT / "README.md").read_text(encoding="utf-8"):
        return
    pages = list(ROOT.glob(path))
    assert pages
    for page in pages:
        found = re.search(r"pip install[^\n#&|`]* oxherd\b", page.read_text(encoding="utf-8"))
        assert found is None, f"{page}: {found and found[0]}"


def test_the_readme_names_the_bullmq_that_the_tests_are_made_with():
    """docs/how-to/upgrade.md sends its reader there."""
    interop = ROOT / "tests/interop"
    needs = json.loads((interop / "package.json").read_text(encoding="utf-8"))
    found = re.search(
        r"^bullmq==(\S+)$", (interop / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found is not None
    of_node = [text.rpartition("@")[2] for text in _values_of("bullmq", needs)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"beside BullMQ {' and '.join(of_node)} of Node, and {found[1]} of Python" in readme


def _values_of(prefix: str, settings: dict) -> list[str]:
    tables = (settings.get("dependencies", {}), settings.get("devDependencies", {}))
    return [text for table in tables for name, text in table.items() if re.fullmatch(rf"{prefix}\d*", name)]
