"""What is told of an abnormal end: bounded, never empty, never guessed; and when a crash ends a job (I10)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.master import evidence, faults
from supervisor.master.evidence import RECORD_BYTES, Evidence, Tail, death, trimmed, where
from supervisor.master.faults import LAST_LINE, Faults, why_silent
from supervisor.master.finish import FinishRules, outcome_of
from supervisor.master.runner import Exit
from supervisor.master.verdicts import CRASHES, Cause, Crashed, CutOff, LockGone, Raised, Returned, cause_of
from supervisor.protocol.commands.work import Failed, FetchedJob, HandedBack, Retried
from supervisor.protocol.job_options import JobOptions

SANDBOX = Path(evidence.__file__).parents[2] / "sandbox"
JOB = FetchedJob("7", "w:1", "resize", b"{}", b"{}", 1, 0, 0, 1, 0, None, None)
RULES = FinishRules(None, None, None, max_crashes=2)
DUMP = f"""Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "/srv/app/other.py", line 9 in helper

Current thread 0x00007e (most recent call first):
  File "{os.__file__}", line 519 in string_at
  File "/srv/app/shop.py", line 30 in crash
  File "/srv/app/shop.py", line 18 in work
  File "{SANDBOX}/attempt.py", line 83 in _call
  File "<string>", line 1 in <module>
"""


FIVE = JobOptions(attempts=5)


def decide(verdict, options=FIVE, job=JOB, rules=RULES, known=None):
    return outcome_of(job, options, verdict, rules, lambda: 0.5, known)


def record_of(outcome):
    return json.loads(outcome.told.record)


# --- the sentence ---------------------------------------------------------------------------------


def test_the_innermost_line_of_the_users_own_is_named():
    assert where(DUMP) == "crash (shop.py line 30)"
    assert where("") == ""
    assert where("Current thread 0x1 (most recent call first):\n  <no Python frame>") == ""


def test_frames_below_the_users_code_are_left_out():
    assert "attempt.py" not in trimmed(DUMP) and "<string>" not in trimmed(DUMP)
    assert "line 519 in string_at" in trimmed(DUMP) and "in helper" in trimmed(DUMP)


@pytest.mark.parametrize(
    ("how", "known", "sentence"),
    [
        (Exit(None, 11), Evidence(python_stack=DUMP), "signal 11 (SIGSEGV) in crash (shop.py line 30)"),
        (Exit(None, 9), Evidence(killed_by="nobody of ours"), "signal 9 (SIGKILL), sent by nobody of ours"),
        (Exit(None, 77), Evidence(), "the runner died of signal 77 (unnamed)"),
        (Exit(0, None), Evidence(), "exit status 0 before the job was done: there is no result"),
        (Exit(None, None), Evidence(), "an unknown exit before the job was done: there is no result"),
    ],
)
def test_a_death_is_told_in_one_sentence(how, known, sentence):
    reason = death(how, known).reason
    assert reason.endswith(sentence)
    assert "perhaps" not in reason and "probably" not in reason


class Measured:
    """Of an attempt, what the kernel's books have told."""

    def __init__(self, peak_bytes):
        self.peak_bytes = peak_bytes


def test_whom_the_kernel_killed_is_told_to_be_killed_by_it_with_the_peak_of_its_books():
    died = Evidence(killed_by="nobody of ours", peak_bytes=7, peak_of="runner", ended="signal 9 (SIGKILL)")
    known = evidence.of_kernel_kill(died, Measured(300 * 2**20))
    assert (known.killed_by, known.peak_bytes, known.peak_of) == ("the kernel", 300 * 2**20, "attempt")
    assert "sent by the kernel, peak memory 300 MB, " in known.rows("host_out_of_memory", "x")[1]
    assert evidence.of_kernel_kill(died, Measured(0)).peak_bytes == 7


# --- the record and the rows ----------------------------------------------------------------------


def test_a_record_is_one_line_and_bounded_whatever_a_runner_has_printed():
    for text in ("\x00" * 8192, "é\ud83d" * 4096, '"\\\n' * 3000):
        known = Evidence(output=text, python_stack=text, progress=text[:1024])
        record = known.record("signal", text)
        assert len(record) <= RECORD_BYTES
        assert b"\n" not in record
        assert json.loads(record)["cause"] == "signal"


def test_what_is_not_known_has_no_member():
    assert json.loads(Evidence().record("exit", "gone")) == {"cause": "exit", "reason": "gone"}


def test_what_is_known_to_be_nothing_has_one():
    """The first job of a runner is told from one of which nobody knows how many were before."""
    assert json.loads(Evidence(runner=17, peak_bytes=1).record("exit", "gone")) == {
        "cause": "exit",
        "reason": "gone",
        "peak_bytes": 1,
        "peak_of": "attempt",
        "cpu_ms": 0,
        "ran_ms": 0,
        "runner": 17,
        "runner_age_ms": 0,
        "runner_jobs": 0,
    }


def test_the_rows_of_a_log_are_few_and_short():
    rows = Evidence(output="\n".join("x" * 5000 for _ in range(50)), no_stack="why").rows(
        "signal", "y" * 9000
    )
    assert len(rows) <= 10
    assert all(len(row) <= 400 and row.startswith("verdict: ") for row in rows)


def test_the_tail_is_the_last_8_kb():
    tail = Tail()
    for n in range(10_000):
        tail.add(f"line {n}")
    assert tail.text().endswith("line 9998\nline 9999")
    assert 8_000 < len(tail.text()) <= 8192
    tail.add("é" * 16_384)
    assert len(tail.text().encode()) <= 8192
    assert set(tail.text()) == {"é"}


# --- budgets --------------------------------------------------------------------------------------


def test_a_crash_is_tried_again_until_there_were_too_many():
    first = decide(Crashed(Cause.SIGNAL, "died"))
    assert isinstance(first, Retried) and first.told.is_crash
    last = decide(Crashed(Cause.SIGNAL, "died"), job=replace(JOB, attempts_made=1, crashes=1))
    assert isinstance(last, Failed)
    assert last.reason == "quarantined after 2 crashes: died"
    told = {"cause": "signal", "reason": last.reason, "attempt": 2, "crashes": 2, "final": True}
    assert record_of(last).items() >= told.items()


def test_max_crashes_never_gives_a_job_more_than_its_attempts():
    rules = replace(RULES, max_crashes=100)
    outcome = decide(
        Crashed(Cause.EXIT, "gone"), JobOptions(attempts=2), replace(JOB, attempts_made=1), rules
    )
    assert isinstance(outcome, Failed)
    assert "quarantined" not in outcome.reason


def test_crashes_of_before_do_not_end_a_job_that_failed_by_its_own_word():
    outcome = decide(Raised("boom"), job=replace(JOB, attempts_made=3, crashes=7))
    assert isinstance(outcome, Retried) and outcome.told is None


@pytest.mark.parametrize("cause", sorted(set(Cause) - CRASHES))
def test_what_is_no_crash_is_not_counted_as_one(cause):
    outcome = decide(Crashed(cause, "ended"), job=replace(JOB, crashes=1))
    assert isinstance(outcome, Retried) and not outcome.told.is_crash
    assert record_of(outcome)["crashes"] == 1


def test_a_final_crash_is_not_called_quarantined():
    outcome = decide(Crashed(Cause.CANCELLED, "cancelled by ada", final=True))
    assert (type(outcome), outcome.reason) == (Failed, "cancelled by ada")


def test_every_crash_has_a_stack_trace_that_begins_with_its_reason():
    with_stack = decide(Crashed(Cause.SIGNAL, "died"), known=Evidence(python_stack="File x"))
    assert with_stack.stack == "died\nFile x"
    assert decide(Crashed(Cause.EXIT, "gone")).stack == "gone"
    assert decide(Raised("no JSON", "", final=True, cause=Cause.BAD_RESULT)).stack == "no JSON"


def test_the_log_keeps_as_many_rows_as_the_job_says():
    assert decide(Crashed(Cause.EXIT, "gone"), JobOptions(keep_logs=3)).told.keep_rows == 3
    assert decide(Crashed(Cause.EXIT, "gone"), JobOptions(keep_logs=-1)).told.keep_rows == 0


def test_who_is_handed_back_for_want_of_a_runner_is_told_so_and_a_stop_tells_nothing():
    """I9."""
    assert decide(CutOff()) == HandedBack("7", "w:1")
    told = decide(CutOff(Cause.NO_RUNNER, "no runner")).told
    assert json.loads(told.record)["cause"] == "no_runner"
    assert (told.rows, told.is_crash) == (["verdict: no runner"], False)


def test_every_abnormal_end_has_a_cause_and_no_other_has_one():
    assert cause_of(Returned(b"1")) is None and cause_of(Raised("boom")) is None
    assert cause_of(Crashed(Cause.EXIT, "x")) is Cause.EXIT
    assert cause_of(CutOff()) is Cause.STOPPED
    assert cause_of(LockGone("x")) is Cause.LOST_LOCK


# --- what its faulthandler writes ------------------------------------------------------------------


class Asked:
    """A process with a pipe that the test writes to in its place."""

    def __init__(self):
        self.lines, self.answered = [], asyncio.Event()
        fd, self.far = os.pipe()
        self.faults = Faults(asyncio.get_running_loop(), fd, self.lines.append)
        code = "import faulthandler as f, time; f.register(10); print(1); time.sleep(60)"
        self.process = subprocess.Popen([sys.executable, "-uc", code], stdout=-1, stderr=subprocess.DEVNULL)
        self.process.stdout.readline()

    def ask(self):
        pidfd = os.pidfd_open(self.process.pid)
        try:
            self.faults.ask(self.process.pid, pidfd, self.answered.set)
        finally:
            os.close(pidfd)

    def close(self):
        self.faults.close()
        os.close(self.far)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
async def asked():
    made = Asked()
    yield made
    made.close()


async def within(event, limit_s):
    async with asyncio.timeout(limit_s):
        await event.wait()


async def test_whose_last_line_has_come_is_not_waited_for(asked, monkeypatch):
    monkeypatch.setattr(faults, "ANSWER_WITHIN_S", 60)
    monkeypatch.setattr(faults, "QUIET_S", 60)
    asked.ask()
    os.write(asked.far, b"Current thread\n" + LAST_LINE)
    await within(asked.answered, 10)
    assert asked.faults.text.startswith("Current thread")


async def test_who_falls_silent_in_the_middle_is_not_waited_for_long(asked, monkeypatch):
    monkeypatch.setattr(faults, "ANSWER_WITHIN_S", 60)
    asked.ask()
    os.write(asked.far, b"Current thread\n  File half")
    await within(asked.answered, 10)
    assert asked.faults.no_answer == ""


async def test_who_does_not_answer_is_waited_for_no_longer_than_it_may_take(asked):
    asked.ask()
    assert not asked.answered.is_set()
    await within(asked.answered, 10)
    assert asked.faults.no_answer == "it did not answer within 150 ms"


async def test_who_never_stops_answering_is_waited_for_no_longer_either(asked):
    asked.ask()

    async def flood():
        while not asked.answered.is_set():
            os.write(asked.far, b"x" * 100)
            await asyncio.sleep(0.005)

    async with asyncio.timeout(10):
        await flood()
    assert len(asked.faults.text) < 65_537


async def test_what_is_written_unasked_is_told_as_output(asked):
    os.write(asked.far, b"one\ntwo\n")
    async with asyncio.timeout(10):
        while asked.lines != ["one", "two"]:
            await asyncio.sleep(0.005)


async def test_who_looks_while_another_does_sees_the_same(asked):
    """Seen: five who looked at once, of whom one was told that the runner is asked already."""
    seen = []
    pidfd = os.pidfd_open(asked.process.pid)
    for _ in range(3):
        asked.faults.look(asked.process.pid, pidfd, lambda *told: seen.append(told))
    os.close(pidfd)
    os.write(asked.far, b"Current thread\n" + LAST_LINE)
    async with asyncio.timeout(10):
        while len(seen) < 3:
            await asyncio.sleep(0.005)
    assert set(seen) == {("Current thread\n" + LAST_LINE.decode(), "")}


async def test_who_takes_long_to_die_has_said_how_all_the_same(asked, monkeypatch):
    """Seen on a loaded host: the dump of a crash was told as output, and the verdict had no place."""
    os.write(asked.far, DUMP.encode())
    async with asyncio.timeout(10):
        while not asked.lines:
            await asyncio.sleep(0.005)
    assert (asked.faults.text, asked.faults.text_of_crash()) == ("", DUMP)
    monkeypatch.setattr(faults, "DIES_WITHIN_S", -1)
    assert asked.faults.text_of_crash() == "", "that was another process, a while ago"
    monkeypatch.undo()
    asked.faults.clear()
    assert asked.faults.text_of_crash() == "", "that was another job"


async def test_a_closed_pipe_is_no_answer_and_no_busy_loop(asked):
    asked.ask()
    os.close(asked.far)
    await within(asked.answered, 10)
    asked.far = os.open(os.devnull, os.O_WRONLY)


async def test_who_is_stopped_or_has_ended_is_not_asked(asked):
    asked.process.send_signal(signal.SIGSTOP)
    while "T" not in Path(f"/proc/{asked.process.pid}/stat").read_text().split()[2]:
        await asyncio.sleep(0.001)
    assert why_silent(asked.process.pid) == "it was stopped (state T)"
    asked.process.send_signal(signal.SIGCONT)
    asked.process.kill()
    while Path(f"/proc/{asked.process.pid}/stat").read_text().split()[2] != "Z":
        await asyncio.sleep(0.001)
    assert why_silent(asked.process.pid) == "it has ended already"


def test_who_would_die_of_the_question_is_not_asked():
    """This process has no handler of SIGUSR1."""
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert why_silent(os.getpid()) == "its handler of SIGUSR1 was removed"
    assert why_silent(2**22 + 1) == "it has ended already"


def test_the_cpu_time_of_another_process_can_be_told():
    burning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        give_up_at = time.monotonic() + 20
        while evidence.cpu_ns(burning.pid) < 50_000_000:
            assert time.monotonic() < give_up_at
    finally:
        burning.kill()
        burning.wait()
    assert evidence.cpu_ns(burning.pid) == 0
