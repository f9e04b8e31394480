"""The scripts' texts: every include is found once, every script has its header and its command."""

from __future__ import annotations

import importlib
import pkgutil
import re
from importlib import resources

import pytest

import supervisor.lua
from supervisor.lua import source
from supervisor.protocol import commands

SCRIPTS = sorted(
    entry.name.removesuffix(".lua")
    for entry in resources.files(supervisor.lua).iterdir()
    if entry.name.endswith(".lua")
)
COMMANDS = {
    value.script: value
    for module in pkgutil.iter_modules(commands.__path__)
    for value in vars(importlib.import_module(f"{commands.__name__}.{module.name}")).values()
    if isinstance(value, type) and "script" in vars(value)
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_does_and_takes(name):
    text = source(name)
    assert text.startswith(f"--[[\n  {name}: ")
    header = text.partition("]]")[0]
    for word in ("KEYS[", "ARGV[", "Derives", "Returns", "Events", "Cost"):
        assert word in header, word


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_include_is_replaced_and_no_fragment_comes_twice(name):
    text = source(name)
    assert "--- include" not in text
    defined = re.findall(r"^local function (\w+)", text, re.MULTILINE)
    assert sorted(set(defined)) == sorted(defined)


def test_every_script_has_a_command_and_every_command_its_script():
    assert sorted(COMMANDS) == SCRIPTS


def test_a_script_keeps_its_text():
    assert source("addJobs") is source("addJobs")


def test_the_masters_call_makes_few_functions_before_it_needs_more():
    """Lua makes them anew in each call. What a plain call has no need of stands in one that it never runs.
    In there stands another for what few calls need.
    """
    text = source("finishAndFetch").partition("]]")[2]
    plain, careful = text.split("\nlocal function careful(now_text)\n")
    _, seldom = careful.split("\nlocal function make_seldom()\n")

    assert len(re.findall(r"\bfunction\b", plain)) <= 10
    assert len(re.findall(r"\bfunction\b", seldom)) > 70
