"""NumPy as it comes: its OpenBLAS has started threads when it is imported."""

import os

import numpy

from sandbox.processors import processor


@processor("work")
def product(job):
    """So large that OpenBLAS wants its threads."""
    ones = numpy.ones((job.data, job.data))
    return [float((ones @ ones).sum()), os.getpid(), len(os.listdir("/proc/self/task"))]
