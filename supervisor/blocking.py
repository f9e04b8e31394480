"""The client without asyncio: `from supervisor.blocking import Queue`."""

from supervisor.client import (
    AddOptions,
    Backoff,
    Deduplication,
    FlowJob,
    Job,
    JobSpec,
    KeepJobs,
    batches,
    custom,
    exponential,
    fixed,
    flows,
)
from supervisor.client.blocking import Queue
from supervisor.client.listening_blocking import listen

__all__ = [
    "AddOptions",
    "Backoff",
    "Deduplication",
    "FlowJob",
    "Job",
    "JobSpec",
    "KeepJobs",
    "Queue",
    "batches",
    "custom",
    "exponential",
    "fixed",
    "flows",
    "listen",
]
