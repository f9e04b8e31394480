"""The package `sandbox` needs the standard library and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import pkgutil, sys
sys.path.insert(0, sys.argv[1])
import sandbox
for module in pkgutil.iter_modules(sandbox.__path__):
    __import__(f"sandbox.{module.name}")
own = {"sandbox", "__main__"}
foreign = {name.partition(".")[0] for name in sys.modules} - own - set(sys.stdlib_module_names)
sys.exit(", ".join(sorted(foreign)) or None)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """-S: no site-packages at all."""
    command = [sys.executable, "-S", "-W", "error", "-c", code, str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sandbox_needs_nothing_but_the_standard_library():
    done = run(IMPORT_ALL)

    assert done.returncode == 0, done.stderr


def test_what_a_runner_of_plain_functions_loads_is_small():
    """Every module that the template imports for nothing costs every start of the command, and `threading`
    half a millisecond more in each process that is forked, for what it does there.
    """
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sandbox.template\n"
        "heavy = {'asyncio', 'difflib', 'multiprocessing', 'logging', 'typing_extensions', 'threading'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = run(code)

    assert done.returncode == 0, done.stderr
