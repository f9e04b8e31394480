"""A duration without a unit."""

from sandbox.processors import processor


@processor("work", timeout=60)
def work(job):
    return None
