"""Frames: what master and runner say to each other. The one list both ends use.

A frame is a header, kind (1 byte), attempt, length of the body and note (4 bytes each, network order), then
the body. The link is one stream socketpair a runner. Bodies of job data, progress and results are JSON text
that the master carries and never parses; the small bodies with names below are JSON objects.

The attempt is a number that the master draws at random for each START and that every frame about that job
carries, both ways; 0 in frames about the runner itself. So what is said late, or by a thread that a job left
behind, can never be taken for the word of the next job, and a runner may have several jobs at a time.

Before an outcome frame the runner flushes its stdout and stderr, so everything its own code wrote during the
job is in the two pipes when the frame is read. When the kernel tells that anything is in them still, the note
of the frame says so: the master reads both until they would block before it closes the job's log, and the
runner begins nothing that was sent ahead. Nobody counts bytes: the runner cannot know what C code or a
process of the job has written.

Short jobs are sent ahead, with NEXT, while the one before is at work. A job sent ahead is begun only by who
takes a permit for it: a byte from a socket whose end master and runner share, and whose other end, by which
one is put in for each NEXT before that is sent, the master has alone. The master takes permits back to have
jobs back, the last ones first, whatever the runner is doing; a NEXT without a permit is answered with
SKIPPED. So each is begun once, or known not to have been.

There is no resynchronising: whoever reads a bad frame ends the other (I7).

The control link between master and template is a SEQPACKET socketpair: one JSON object a packet, descriptors
beside it.
"""

from __future__ import annotations

import signal
import struct
from enum import IntEnum

HEADER = struct.Struct("!BIII")
MAX_BODY = 64 * 1024 * 1024  # the cap of the format; the limits in force are smaller and configured
MAX_CONTROL = 128 * 1024  # one packet of the control link
CANCEL_SIGNAL = signal.SIGUSR2  # to a runner, after a CANCEL: look, and raise (alarm.py)
MAX_SMALL = 60 * 1024  # what READY, LOG and FAILED stay within, however small the limit on results

# The note of an outcome; 0 in other frames: microseconds that the job took, and whether the runner begins
# nothing that was sent ahead, because output waits to be read or it is to be retired.
HALTED = 1
NOTE_US_SHIFT = 1
MOST_US = 2**31 - 1

# A START or NEXT frame: length of the meta object, the meta object, then the raw data.
START_META = struct.Struct("!I")


class Kind(IntEnum):
    # --- master to runner ---
    GO = 1  # {"slot", "title", "master_pid", "limits": {...}, "at_once"}: registered, may speak; answered by
    #         READY. title: what the process title begins with; limits: members of Policy that differ;
    #         at_once: how many jobs it may have at a time, 1 when left out; "once": it gets one job in its
    #         life, so nobody asks what that has left in it
    START = 2  # meta length, meta {"id","name","queue","attempt","attempts","timestamp","priority","parent",
    #            "soft_timeout_ms","limits" (members of Limits, or null),"started"}, raw data. To a runner of
    #            hooks: {"id","name","queue" (the kind of hook),"attempt","attempts","hook": {"queue",
    #            "reason","stack","happened_on","data_bytes"}}, raw data, raw result
    ANSWER = 3  # {"seq", "value"} or {"seq", "error"}: the reply to an ASK
    CANCEL = 4  # {"reason"}: sets job.cancelled; SIGUSR2 after it: raise Cancelled (alarm.py)
    LEAVE = 5  # empty: finish the job if there is one, then exit 0
    TELL = 6  # empty: answered by TOLD, but not while a job runs
    NEXT = 7  # as START: sent ahead, to be begun after what was sent before it, with a permit
    SEAT = 8  # {"title"}: it has no job, and another slot from now on

    # --- runner to master ---
    READY = 16  # {"pid", "identity" (of what it has loaded), "layers": [[name, applied, reason], ...]}
    PROGRESS = 17  # raw JSON text
    LOG = 18  # UTF-8 text
    DATA = 19  # raw JSON text: the job's new data
    ASK = 20  # {"seq", "what", ...}: answered by ANSWER
    COMPLETED = 21  # raw JSON result
    FAILED = 22  # {"kind", "reason", "stack", "delay_ms", "backoff_ms", "retire"}
    LEFT = 23  # {"left": [text, ...], "retire"}: what the job left behind in the runner; before its outcome
    TOLD = 24  # {"pss_bytes", "open_files", "read_bytes", "written_bytes"} of itself, null for unknown
    USED = 25  # {"user_ms", "system_ms", "read_bytes", "written_bytes", "peak_bytes" (or null)} of a job that
    #            ran for a while, before its outcome
    SKIPPED = 26  # empty: a NEXT that was not begun


class FailureKind:
    """The values of `kind` in a FAILED frame."""

    RAISED = "raised"  # an ordinary failure: attempts and backoff decide
    UNRECOVERABLE = "unrecoverable"
    DELAYED = "delayed"
    RATE_LIMITED = "rate_limited"
    WAITING_CHILDREN = "waiting_children"
    TIME_LIMIT = "time_limit"  # TimeLimit left the processor: an ordinary failure with a reason of ours
    CANCELLED = "cancelled"  # Cancelled left the processor: the master knows who has asked for it
    OUT_OF_MEMORY = "out_of_memory"  # MemoryError left the processor of a job whose memory is limited
    BAD_DATA = "bad_data"  # the stored data is not JSON: unrecoverable
    BAD_RESULT = "bad_result"  # the result cannot be said in JSON, or is too large: unrecoverable


FROM_RUNNER = frozenset(
    {
        *(Kind.READY, Kind.PROGRESS, Kind.LOG, Kind.DATA, Kind.ASK, Kind.COMPLETED, Kind.FAILED),
        *(Kind.LEFT, Kind.TOLD, Kind.USED, Kind.SKIPPED),
    }
)
TO_RUNNER = frozenset(
    {Kind.GO, Kind.START, Kind.ANSWER, Kind.CANCEL, Kind.LEAVE, Kind.TELL, Kind.NEXT, Kind.SEAT}
)

Frame = tuple[Kind, bytes, int, int]
_KINDS = {int(kind): kind for kind in Kind}


class FrameError(Exception):
    """Bytes that are no frame."""

    def __init__(self, kind: int, length: int) -> None:
        super().__init__(f"frame of kind {kind} with {length} bytes")


def frame(kind: Kind, body: bytes = b"", attempt: int = 0, note: int = 0) -> bytes:
    """One frame, ready to be sent. The caller keeps `body` within the limit in force."""
    return HEADER.pack(kind, attempt, len(body), note) + body


def take_frame(buffer: bytearray, allowed: frozenset[Kind], max_body: int = MAX_BODY) -> Frame | None:
    """Cut the first frame off `buffer`: kind, body, attempt, note; None until it is complete.

    Raises `FrameError` as soon as the header is wrong, before any of the body is waited for.
    """
    if len(buffer) < HEADER.size:
        return None
    kind, attempt, length, note = HEADER.unpack_from(buffer)
    if kind not in allowed or length > max_body:
        raise FrameError(kind, length)
    end = HEADER.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[HEADER.size : end])
    del buffer[:end]
    return _KINDS[kind], body, attempt, note
