"""Two queues of different profiles; each job tells what its module's import saw."""

import os
import resource

from oxherd import Job, processor

AT_IMPORT = {
    "template": os.getpid(),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "scheduler": os.sched_getscheduler(0),
}


@processor("plain")
def plain(job: Job):
    return AT_IMPORT


@processor("guarded", profile="process")
def guarded(job: Job):
    return AT_IMPORT
