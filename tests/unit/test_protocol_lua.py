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


def functions_in(text):
    return len(re.findall(r"\bfunction\b", text))


def test_the_masters_call_makes_few_functions_before_it_needs_more():
    """Lua makes them anew in each call. What few calls need stands in a function that most never run; what
    writes outcomes, or takes jobs, in one that is run by the calls that do.
    """
    text = source("finishAndFetch").partition("]]")[2]
    made = r"(?:settle_all|take|\{\n    text_of\b[^}]*\})"
    makers = rf"\nlocal function make_\w+\(\)\n(.*?)\n  return {made}\nend\n"
    seldom, settling, taking = map(functions_in, re.findall(makers, text, re.DOTALL))
    always = functions_in(text) - seldom - settling - taking

    assert seldom > 70 and settling and taking
    assert always + max(settling, taking) <= 29
