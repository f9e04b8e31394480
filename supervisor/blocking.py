"""The client without asyncio: `from supervisor.blocking import Queue`."""

from supervisor.client import (
    AddOptions,
    Backoff,
    Deduplication,
    Job,
    JobSpec,
    KeepJobs,
    custom,
    exponential,
    fixed,
)
from supervisor.client.blocking import Queue
from supervisor.client.listening_blocking import listen

__all__ = [
    "AddOptions",
    "Backoff",
    "Deduplication",
    "Job",
    "JobSpec",
    "KeepJobs",
    "Queue",
    "custom",
    "exponential",
    "fixed",
    "listen",
]
