"""Producers and readers: add jobs, look at them, wait for their results. Knows nothing of the master."""

from supervisor.client import batches, flows
from supervisor.client.flows import FlowJob
from supervisor.client.job import Job
from supervisor.client.queue import Queue
from supervisor.protocol.backoff_choice import Backoff, custom, exponential, fixed
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.new_job import AddOptions, JobSpec

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
]
