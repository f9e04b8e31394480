"""What is installed has every module that the command and the processors import."""

from __future__ import annotations

import tomllib

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
