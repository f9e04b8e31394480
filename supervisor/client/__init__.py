"""Producers and readers: add jobs, look at them, wait for their results. Knows nothing of the master."""

from supervisor.client.backoff import Backoff, custom, exponential, fixed
from supervisor.client.job import Job
from supervisor.client.options import AddOptions, JobSpec
from supervisor.client.queue import Queue
from supervisor.protocol.job_options import KeepJobs

__all__ = ["AddOptions", "Backoff", "Job", "JobSpec", "KeepJobs", "Queue", "custom", "exponential", "fixed"]
