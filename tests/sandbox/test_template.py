"""The template: what it loads, what it refuses, whose children it makes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest
from small_master import PROCESSORS, ROOT, wait_until

from sandbox.wire import Kind

# --- loading -------------------------------------------------------------------------------------


def test_ready_tells_what_the_processors_ask_for(master):
    ready = master.load("limits")

    assert ready["what"] == "ready"
    assert ready["pid"] == master.process.pid
    assert ready["processors"] == [
        {
            "queue": "thumbnails",
            "name": "resize",
            "target": "limits:resize",
            "concurrency": 2,
            "custom_backoff": True,
            "limits": {"timeout_ms": 90_000, "soft_timeout_ms": 500, "memory_bytes": 512 * 1024 * 1024},
            "profile": None,
            "fresh": None,
            "per_runner": None,
            "max_crashes": None,
            "on_memory": None,
            "target_number": 0,
            "data_type": None,
        },
        {
            "queue": "thumbnails",
            "name": None,
            "target": "limits:rest",
            "concurrency": None,
            "custom_backoff": False,
            "limits": {},
            "profile": None,
            "fresh": None,
            "per_runner": None,
            "max_crashes": None,
            "on_memory": None,
            "target_number": 0,
            "data_type": None,
        },
    ]


def test_a_plain_function_takes_the_queue_it_is_given(master):
    ready = master.load("plain:double", queue="numbers")

    assert [(each["queue"], each["name"]) for each in ready["processors"]] == [("numbers", None)]
    assert master.runner().run("whatever", 21, queue="numbers") == 42


def test_a_decorated_function_named_alone_keeps_its_own_queue(master):
    ready = master.load("limits:rest", queue="numbers")

    assert [each["target"] for each in ready["processors"]] == ["limits:rest"]
    assert ready["processors"][0]["queue"] == "thumbnails"


def test_a_module_serves_what_it_imports_by_name_and_nothing_else(master):
    assert [each["target"] for each in master.load("collected")["processors"]] == ["limits:resize"]


def test_several_targets_share_a_template(master):
    ready = master.load("limits", "plain:Group.triple", "limits:rest", queue="numbers")

    assert [each["target"] for each in ready["processors"]] == [
        "limits:resize",
        "limits:rest",
        "plain:Group.triple",
    ]
    assert master.runner().run("any", 5, queue="numbers") == 15


@pytest.mark.parametrize(
    ("target", "queue", "cause"),
    [
        ("simpel", None, "there is no module 'simpel'; did you mean simple?"),
        ("zzzzzz", None, f"there is no module 'zzzzzz' in {PROCESSORS} or among the installed packages"),
        ("zzzzzz.below", None, "there is no module 'zzzzzz' (of target zzzzzz.below)"),
        ("plain:doubel", "q", "plain has no function 'doubel'; did you mean double?"),
        ("plain:Group.trippel", "q", "plain:Group has no function 'trippel'; did you mean triple?"),
        ("plain:ANSWER", "q", "plain:ANSWER is of type int, not a function"),
        (
            "plain:double",
            None,
            "plain:double has no queue: name one with --queue, "
            'or write @processor("queue") above the function',
        ),
        (
            "plain",
            None,
            'plain has no processors: write @processor("queue") above a function, '
            "or name a function: plain:double --queue QUEUE",
        ),
        ("plain.py", None, "'plain.py' looks like a file; a target is a module: write plain"),
        ("./jobs/plain.py:double", None, "a target is a module: write jobs.plain:double"),
        ("../jobs/plain:double", None, "a target is a module: write jobs.plain:double"),
        (
            "uncallable:of_two",
            "q",
            "uncallable:of_two is written (job, other), but a processor is called with one argument, the job",
        ),
        ("uncallable:of_none", "q", "uncallable:of_none is written (), but"),
        ("uncallable:Method.work", "q", "uncallable:Method.work is written (self, job), but"),
        ("two words", None, "'two words' is no target: write module or module:function"),
        (
            "twice",
            None,
            "two processors for jobs named 'send' of queue 'mail': twice:first and twice:second; "
            "one of them needs another queue or another name",
        ),
        ("unit_missing", None, 'unit_missing:work: timeout=60 has no unit; write "60s" or "60ms"'),
    ],
)
def test_a_target_that_cannot_be_is_one_sentence(master, target, queue, cause):
    failed = master.load(target, queue=queue)

    assert failed["what"] == "failed"
    assert cause in failed["cause"]
    assert "\n" not in failed["cause"]
    assert failed["traceback"] == ""
    assert master.process.wait() == 1


@pytest.mark.parametrize(
    ("target", "cause", "last_line"),
    [
        (
            "broken_import",
            "importing broken_import raised KeyError: 'missing key'",
            "KeyError: 'missing key'",
        ),
        (
            "broken_dependency",
            "importing broken_dependency raised "
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        ),
        ("exits", "importing exits raised SystemExit: not configured", "SystemExit: not configured"),
    ],
)
def test_a_module_that_raises_keeps_its_own_traceback(master, target, cause, last_line):
    failed = master.load(target)

    assert failed["cause"] == cause
    lines = failed["traceback"].splitlines()
    assert f'tests/processors/{target}.py", line ' in lines[1]
    assert lines[-1] == last_line
    assert "loader.py" not in failed["traceback"]
    assert "importlib" not in failed["traceback"]


def test_two_functions_for_one_queue_from_the_command_line_are_refused(master):
    failed = master.load("plain:double", "plain:Group.triple", queue="q")

    assert failed["cause"] == (
        "two processors for the jobs of queue 'q': plain:double and plain:Group.triple; "
        "one of them needs another queue or another name"
    )


def test_what_a_decorator_has_wrapped_is_judged_by_the_wrapper(master):
    assert master.load("uncallable:wrapped", queue="q")["what"] == "ready"
    assert master.runner().run("any", 1, queue="q") == "other"


# --- forking -------------------------------------------------------------------------------------


def test_a_module_that_leaves_a_thread_ends_the_template_and_the_thread_is_named(master):
    """I5: no fork beside another thread."""
    told = master.load("threaded")

    assert told["what"] == "threads"
    assert told["cause"] == (
        "importing the targets left 1 thread running (nightly-refresh); forking beside them is not safe; "
        "start threads in the processor, not when the module is imported"
    )
    assert [each["target"] for each in told["processors"]] == ["threaded:names"]
    assert master.process.wait(10) == 1


def test_a_thread_that_nobody_has_named_is_not_told_by_the_name_of_its_process(master):
    """The kernel gives it that of who started it, which is our title, cut."""
    assert "left 1 thread running (unnamed);" in master.load("threaded_in_c")["cause"]


def test_a_bare_template_imports_nothing_and_its_runners_import_for_themselves(master):
    """I5, I6."""
    assert master.load("threaded", bare=True)["processors"] == []
    assert len(os.listdir(f"/proc/{master.process.pid}/task")) == 1
    assert "nightly-refresh" in master.runner().run("names")


def test_a_runner_that_cannot_import_says_why_and_is_gone(master):
    master.load("broken_at_import", bare=True)
    runner = master.fork()
    assert runner.wait() == 1
    assert "importing broken_at_import raised ZeroDivisionError" in runner.output("stderr")


def test_a_thread_that_starts_after_the_import_stops_the_forking(master):
    """I5: looked at before each fork."""
    assert master.load("thread_later")["what"] == "ready"
    tasks = f"/proc/{master.process.pid}/task"
    os.kill(master.process.pid, signal.SIGUSR2)
    wait_until(lambda: len(os.listdir(tasks)) == 2, "the thread")

    answer, link, *outputs = master.ask_for_fork()
    link.close()
    for fd in outputs:
        os.close(fd)

    assert answer["what"] == "refused"
    assert "1 thread running" in answer["reason"]


def test_threads_that_a_library_ends_before_a_fork_are_no_obstacle(master):
    """I5: they are gone when it forks; who forks to find out forks a child that does nothing."""
    assert master.load("lets_go")["what"] == "ready"
    assert len(os.listdir(f"/proc/{master.process.pid}/task")) == 1
    assert master.runner().run("any") == 1


def test_a_thread_that_was_joined_is_no_obstacle(master):
    assert master.load("thread_joined")["what"] == "ready"
    assert master.runner().run("any") == 1


def test_a_runner_is_the_masters_child_and_says_nothing_before_go(master):
    """I8: registered before it can speak."""
    master.load("simple")
    runner = master.fork()
    parent = _status_of(runner.pid, "PPid")
    wait_until(lambda: _status_of(runner.pid, "PPid") == os.getpid(), "the runner to be ours")
    wait_until(lambda: _asleep_in_recv(runner.pid), "the runner to wait for GO")

    assert parent != master.process.pid
    assert runner.silent()
    assert runner.go()["pid"] == runner.pid


def _status_of(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def _asleep_in_recv(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        state = file.read().rpartition(")")[2].split()[0]
    return state == "S" and _status_of(pid, "NSsid") == pid


def test_a_runner_that_is_told_to_leave_before_go_leaves(master):
    master.load("simple")
    runner = master.fork()
    runner.send(Kind.LEAVE)

    assert runner.wait() == 0


def test_runners_draw_different_numbers(master):
    """What fork copies includes the state of global generators."""
    master.load("random_numbers")
    drawn = [tuple(master.runner().run("any")) for _ in range(2)]

    assert len({number for pair in drawn for number in pair}) == 4


def test_runners_outlive_their_template_and_not_their_link(master):
    master.load("simple")
    runner = master.runner()

    master.process.kill()
    master.process.wait()
    assert runner.run("echo", 1) == 1
    runner.link.close()
    assert runner.wait() == 0


def test_the_template_ends_with_0_when_the_master_lets_go(master):
    master.load("simple")
    master.control.shutdown(2)

    assert master.process.wait() == 0


def test_the_template_leaves_no_zombie_and_no_descriptor_behind(master):
    # Not isolated, so that it is dumpable: else only root may look at its descriptors.
    master.load("simple", profile="none")
    fds = f"/proc/{master.process.pid}/fd"
    before = len(os.listdir(fds))
    for _ in range(5):
        master.runner()

    # It closes those of the last request after the answer, on its way to the next.
    wait_until(lambda: len(os.listdir(fds)) == before, "those of the requests to be closed")
    with open(f"/proc/{master.process.pid}/task/{master.process.pid}/children") as file:
        assert file.read() == ""


def test_a_module_that_has_its_children_reaped_still_gets_runners(master):
    """The template cannot wait for the middle process then, where it forks twice."""
    master.load("ignores_children")
    assert master.runner().run("any") == "done"


def test_a_fork_that_the_host_has_no_room_for_is_refused_with_its_reason(new_master):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    master = new_master(python="/usr/bin/python3", user=65534, group=65534, extra_groups=[])
    assert master.load("no_room")["what"] == "ready"

    answer, link, *outputs = master.ask_for_fork()
    link.close()
    for fd in outputs:
        os.close(fd)

    assert answer["what"] == "refused"
    assert answer["request"] == 1
    assert "Resource temporarily unavailable" in answer["reason"]


def test_a_request_without_its_descriptors_is_refused(master):
    master.load("simple")
    master.control.sendall(b'{"what":"fork","request":9,"slot":1}')

    assert master.answer() == {
        "what": "refused",
        "request": 9,
        "reason": "expected fork with 3 to 5 descriptors, not 'fork' with 0",
    }


MASTER_TO_BE_KILLED = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from small_master import Master
from sandbox import linux
linux.set_child_subreaper(True)
master = Master()
master.load("simple")
idle, busy = master.runner(), master.runner()
busy.start("spin")
unborn = master.fork()
print(master.process.pid, idle.pid, busy.pid, unborn.pid, flush=True)
sys.stdin.read()
"""


def test_nobody_outlives_a_killed_master():
    """I8: template, idle runner, busy runner and one that had not been told to go."""
    killed = subprocess.Popen(
        [sys.executable, "-c", MASTER_TO_BE_KILLED, str(ROOT), str(ROOT / "tests" / "sandbox")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pidfds = {}
    try:
        assert killed.stdout is not None
        pids = [int(pid) for pid in killed.stdout.readline().split()]
        pidfds = {pid: os.pidfd_open(pid) for pid in pids}
        assert len(pidfds) == 4
        killed.kill()
        killed.wait()
        for pid, pidfd in pidfds.items():
            assert select.select([pidfd], [], [], 10)[0], f"process {pid} of {pids} lives on"
    finally:
        killed.kill()
        killed.communicate()
        for pid, pidfd in pidfds.items():
            if not select.select([pidfd], [], [], 0)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            # We are a sub-reaper: the orphans of the killed master are ours to bury.
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


def test_requests_that_wait_together_are_answered_each_with_a_runner_of_its_own(master):
    """Each has its own descriptors, and none of another's."""
    master.load("simple")
    os.kill(master.process.pid, signal.SIGSTOP)
    ends = [master.request_fork(slot) for slot in (1, 2, 3)]
    os.kill(master.process.pid, signal.SIGCONT)
    answers = [master.answer() for _ in ends]
    assert [each["what"] for each in answers] == ["forked"] * 3
    runners = [master.adopt(answer["pid"], *mine) for answer, mine in zip(answers, ends, strict=True)]
    assert len({runner.pid for runner in runners}) == 3
    for runner in runners:
        assert runner.go()["pid"] == runner.pid
    first, *others = runners
    first.send(Kind.LEAVE)
    assert first.wait() == 0
    assert first.link.recv(1) == b"", "a sibling holds its link open"
    assert all(each.silent() for each in others)
