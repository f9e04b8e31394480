"""Evidence: what is known of an abnormal end beside its verdict, and how it is told.

Decides what belongs to a record, how large it may be, and how it reads in a job's log. It does not decide the
verdict, nor what becomes of the job. Everything that came from a runner is text of a stranger: bounded here.

Reads    /proc of a runner that is not reaped yet, its CPU clock, its rusage
Rule     invariant I10: no failure is silent or empty; what is not known is said to be so, never guessed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


OUTPUT_BYTES: Final = 8 * 1024  # of what was printed last
STACK_CHARS: Final = 8 * 1024
PROGRESS_CHARS: Final = 1024
RECORD_BYTES: Final = 28 * 1024  # one record; a job's all are bounded by the script
ROW_CHARS: Final = 400
ROWS_OF_OUTPUT: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Beside the cause and the reason.

    ended            how the process ended: an exit status or a signal; empty when it lives on.
    killed_by        `oxherd`, or `nobody of ours` when it died of a SIGKILL we did not send; else empty.
    peak_bytes       most memory in use. 0: not known.
    peak_of          whose that is: `attempt` (its processes' own memory, sampled or of its cgroup) or `runner`
                     (the largest resident set of one of its processes in all its life, shared memory counted).
    cpu_ms           CPU time of the attempt; None: not known.
    runner           its process id.
    runner_age_ms    since it was born.
    runner_jobs      how many jobs it had finished before.
    python_stack     of all threads, asked for before the kill or written by a crash; empty: `no_stack` says why.
    output           the last of what was printed, at most 8 KB.
    progress         the last progress, JSON text.
    """

    ended: str = ""
    killed_by: str = ""
    peak_bytes: int = 0
    peak_of: str = "runner"
    cpu_ms: int | None = None
    ran_ms: int = 0
    runner: int = 0
    runner_age_ms: int = 0
    runner_jobs: int = 0
    python_stack: str = ""
    no_stack: str = ""
    output: str = ""
    progress: str = ""
