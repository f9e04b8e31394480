"""A processor whose module imports NumPy, as a template has it imported once for all runners."""

import numpy


def nothing(job):
    return float(numpy.ones(100).sum())
