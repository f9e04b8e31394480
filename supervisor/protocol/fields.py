"""Wire names. BullMQ's spellings stand here and in the Lua scripts, nowhere else in the program."""

from __future__ import annotations

from typing import Final

# --- fields of a job's hash (core.md section 2) --------------------------------------------------
NAME: Final = "name"
DATA: Final = "data"
OPTS: Final = "opts"
TIMESTAMP: Final = "timestamp"
DELAY: Final = "delay"
PRIORITY: Final = "priority"
PARENT_KEY: Final = "parentKey"
PARENT: Final = "parent"
DEDUPLICATION_ID: Final = "deid"
SCHEDULER_ID: Final = "rjk"
PROCESSED_ON: Final = "processedOn"
PROCESSED_BY: Final = "pb"
ATTEMPTS_STARTED: Final = "ats"
ATTEMPTS_MADE: Final = "atm"
ATTEMPTS_MADE_LEGACY: Final = "attemptsMade"
STALLED_COUNT: Final = "stc"
DEFERRED_FAILURE: Final = "defa"
PROGRESS: Final = "progress"
RETURN_VALUE: Final = "returnvalue"
FAILED_REASON: Final = "failedReason"
STACKTRACE: Final = "stacktrace"
FINISHED_ON: Final = "finishedOn"

# --- fields of ours in a job's hash -------------------------------------------------------------------
CRASHES: Final = "ox:crashes"
VERDICTS: Final = "ox:verdict"
USED: Final = "ox:used"

# --- job options as stored in `opts` (core.md section 2.1): Python name -> stored name --------------
OPTION_NAMES: Final = {
    "attempts": "attempts",
    "backoff": "backoff",
    "delay_ms": "delay",
    "priority": "priority",
    "lifo": "lifo",
    "job_id": "jobId",
    "timestamp": "timestamp",
    "remove_on_complete": "removeOnComplete",
    "remove_on_fail": "removeOnFail",
    "keep_logs": "kl",
    "stack_trace_limit": "stackTraceLimit",
    "size_limit": "sizeLimit",
    "timeout_ms": "timeout",
    "deduplication": "de",
    "parent": "parent",
    "fail_parent_on_failure": "fpof",
    "continue_parent_on_failure": "cpof",
    "ignore_dependency_on_failure": "idof",
    "remove_dependency_on_failure": "rdof",
}

# The option in which a producer leaves the trace that a job belongs to (management.md section 6).
TELEMETRY: Final = "tm"

# --- the parts of the option `deduplication` (management.md section 2): Python name -> stored name ----------
DEDUPLICATION_PARTS: Final = {
    "id": "id",
    "ttl_ms": "ttl",
    "extend": "extend",
    "replace": "replace",
    "keep_last_if_active": "keepLastIfActive",
    "reschedule": "reschedule",
}

# --- fields of a queue's `meta` (core.md section 1.3) ----------------------------------------------
META_PAUSED: Final = "paused"
META_CONCURRENCY: Final = "concurrency"
META_MAX: Final = "max"
META_DURATION: Final = "duration"

# --- flows (core.md section 9): a child's word of its parent, and the keys beside a parent's hash -------
PARENT_ID: Final = "id"
PARENT_QUEUE: Final = "queue"
PARENT_QUEUE_KEY: Final = "queueKey"
CHILDREN_PENDING: Final = ":dependencies"
CHILDREN_PROCESSED: Final = ":processed"
CHILDREN_IGNORED: Final = ":failed"
CHILDREN_FAILED: Final = ":unsuccessful"

# --- a dead letter: what its data says of the job, beside the fields of its hash --------------------------
LETTER_QUEUE: Final = "queue"
LETTER_ID: Final = "id"
LETTER_EXTRA: Final = "ox"

# --- a request to cancel a job: JSON in the hash `ox:cancel` (docs/explain/wire.md) -------------------------
CANCEL_REASON: Final = "reason"
CANCEL_BY: Final = "by"
CANCEL_ON: Final = "on"

# --- job schedulers (management.md section 1): fields of `repeat:<id>` and of the option `repeat` -----------
REPEAT: Final = "repeat"
REPEAT_EVERY: Final = "every"
REPEAT_PATTERN: Final = "pattern"
REPEAT_ZONE: Final = "tz"
REPEAT_LIMIT: Final = "limit"
REPEAT_START: Final = "startDate"
REPEAT_END: Final = "endDate"
REPEAT_OFFSET: Final = "offset"
REPEAT_COUNT: Final = "count"
REPEAT_ITERATIONS: Final = "ic"
REPEAT_ID: Final = "repeatJobKey"
REPEAT_BEFORE: Final = "prevMillis"

# --- states, in BullMQ's words --------------------------------------------------------------------
WAITING: Final = "waiting"
PRIORITIZED: Final = "prioritized"
DELAYED: Final = "delayed"
WAITING_CHILDREN: Final = "waiting-children"
ACTIVE: Final = "active"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
WAIT: Final = "wait"  # where waiting jobs stand, and where BullMQ 5 puts them while the queue is paused
PAUSED: Final = "paused"
DEPRECATED_PRIORITY: Final = "priority"  # the sorted set of BullMQ 3
STATES: Final = (ACTIVE, COMPLETED, DELAYED, FAILED, PRIORITIZED, WAITING, WAITING_CHILDREN)
FINISHED: Final = (COMPLETED, FAILED)

# --- entries of the event stream (core.md section 4.5): stored name -> Python name -------------------
EVENT_NAME: Final = "event"
EVENT_JOB_ID: Final = "jobId"
EVENT_PROGRESS: Final = "progress"
EVENT_FIELDS: Final = {
    "name": "job_name",
    "prev": "prev",
    "delay": "due_on",
    "returnvalue": "returned",
    "failedReason": "failed_reason",
    "attemptsMade": "attempts_made",
    "count": "count",
    "deduplicationId": "deduplication_id",
    "deduplicatedJobId": "deduplicated_job_id",
}
EVENT_JSON: Final = frozenset({"returnvalue"})
EVENT_WHOLE: Final = frozenset({"delay", "attemptsMade", "count"})

EVENT_NAMES: Final = frozenset(
    {
        *STATES,
        "added",
        "cleaned",
        "debounced",
        "deduplicated",
        "drained",
        "duplicated",
        "error",
        EVENT_PROGRESS,
        "paused",
        "removed",
        "resumed",
        "retries-exhausted",
        "stalled",
    }
)

# --- metrics of ended jobs (management.md section 6.1) ---------------------------------------------
METRIC_COUNT: Final = "count"
METRIC_LAST_ON: Final = "prevTS"
METRIC_LAST_COUNT: Final = "prevCount"
META_MAX_EVENTS: Final = "opts.maxLenEvents"
META_VERSION: Final = "version"

# --- limits ---------------------------------------------------------------------------------------
MAX_PRIORITY: Final = 2_097_151
DEFAULT_MAX_EVENTS: Final = 10_000
STALLED_TOO_OFTEN: Final = "job stalled more than allowable limit"
STARTED_TOO_OFTEN: Final = "job started more than allowable limit"
