"""A plain function for several queues: it does what its data says."""

import time


def work(job):
    if job.data:
        time.sleep(job.data)
    return job.queue
