"""Draws from a global generator that fork copies, as numpy's does."""

import random
import sys
import types

from sandbox.processors import processor

generator = random.Random(1)  # its state is copied by fork; only `random` itself is seeded anew by Python
sys.modules["numpy.random"] = types.SimpleNamespace(seed=generator.seed)


@processor("work")
def draw(job):
    return [generator.random(), random.random()]
