"""The face: what `oxherd` gives, what it costs, and whose packages it refuses."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import oxherd
from supervisor import errors

ROOT = Path(__file__).parents[2]


def run(code: str, *before: Path) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter that finds `before` ahead of our checkout."""
    path = os.pathsep.join([*map(str, before), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_a_processor_imports_the_face_without_redis_or_any_library():
    """I1: what runs in a runner has loaded no client of Redis."""
    done = run(
        "import sys; before = set(sys.modules)\n"
        "from oxherd import Job, Unrecoverable, processor\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert done.stdout == "['oxherd', 'sandbox']\n", done.stderr


def test_the_command_line_loads_no_library_before_a_subcommand_is_chosen():
    done = run(
        "import sys, supervisor.cli\n"
        "print({'redis', 'hiredis', 'msgspec', 'structlog', 'psutil', 'rich', 'croniter'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("name", [name for name in oxherd.__all__ if name != "main"])
def test_every_name_of_the_face_is_there(name):
    assert getattr(oxherd, name) is not None


def test_the_names_type_checkers_see_are_the_names_there_are():
    tree = ast.parse((ROOT / "oxherd.py").read_text())
    seen = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(home, name) for name, home in oxherd._HOME_OF.items()}
    assert {name for _, name in seen} | {"main"} == set(oxherd.__all__)


def test_every_error_a_caller_can_meet_is_in_the_face():
    of_the_master = {
        "SandboxError",
        "NoRunner",
        "TemplateFailed",
        "BadFrame",
        "NotRepeatable",
        "WrongReply",
        "InvalidOptions",
        "EmbeddedServerError",
        "MasterNotFound",
        "MasterRefused",
        "MasterStuck",
    }
    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert public - of_the_master <= set(oxherd.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = oxherd.nonsense


@pytest.mark.parametrize("package", ["supervisor", "sandbox"])
def test_a_foreign_package_of_our_name_is_refused_with_the_way_out(tmp_path, package):
    theirs = tmp_path / package / "__init__.py"
    theirs.parent.mkdir()
    theirs.write_text("")

    done = run("import sys, oxherd; sys.exit(oxherd.main())", tmp_path)

    assert done.returncode == 2
    assert str(theirs) in done.stderr
    assert "python -m pip uninstall supervisor" in done.stderr
    assert "python -m pip install --force-reinstall ." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_library_user_of_a_foreign_package_gets_an_import_error_that_says_so(tmp_path):
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "__init__.py").write_text("")

    done = run("from oxherd import ConfigError", tmp_path)

    assert "WrongPackage" in done.stderr
    assert "pip uninstall supervisor" in done.stderr


def test_a_package_without_its_init_file_is_refused(tmp_path):
    """What `pip uninstall supervisor` leaves when the other program was installed over ours."""
    (tmp_path / "oxherd.py").write_text((ROOT / "oxherd.py").read_text())
    (tmp_path / "supervisor").mkdir()
    path = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}

    code = "import sys, oxherd; sys.exit(oxherd.main())"
    done = subprocess.run([sys.executable, "-S", "-c", code], env=path, capture_output=True, text=True)

    assert done.returncode == 2
    assert "a directory without __init__.py" in done.stderr
    assert "--force-reinstall" in done.stderr


@pytest.mark.parametrize("metadata", ["supervisor-4.3.0.dist-info", "supervisor-4.2.5-py3.11.egg-info"])
def test_both_programs_in_one_environment_are_refused(tmp_path, metadata):
    (tmp_path / metadata).mkdir()

    done = run("import sys, oxherd; sys.exit(oxherd.main())", tmp_path)

    assert done.returncode == 2
    assert metadata in done.stderr
    assert "pip uninstall supervisor" in done.stderr


def test_other_distributions_are_no_reason_to_refuse(tmp_path):
    (tmp_path / "supervisor_extras-1.0.dist-info").mkdir()
    (tmp_path / "supervisors-1.0.dist-info").mkdir()

    assert oxherd._find_supervisor([str(tmp_path), str(tmp_path / "missing")]) is None
