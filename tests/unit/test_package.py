"""What is installed has every module that the command and the processors import."""

from __future__ import annotations

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
