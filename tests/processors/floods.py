"""Processors that say much more than anybody wants to hear."""

from __future__ import annotations

import os
import time

from oxherd import processor

LINE = "a line of exactly one hundred bytes, as programs print when they tell all day what they are doing!!"


@processor("work")
def work(job):
    """`data`: what to do, the text, and how often."""
    text, times = job.data["text"], job.data["times"]
    if job.data["do"] == "all":
        return everything(job, times)
    if job.data["do"] == "log":
        for _ in range(times):
            job.log(text)
    else:
        piece = (text * (65_536 // len(text))).encode()
        for _ in range(len(text) * times // len(piece)):
            os.write(1, piece)
    return "said"


def everything(job, times):
    """So many progress values; a fifth as many rows; a hundred times as many bytes printed."""
    for step in range(20):
        for number in range(times // 20):
            job.progress(step * (times // 20) + number)
        for number in range(times // 100):
            job.log(f"row {number}")
        for _ in range(times // 20):
            print(LINE)
    return "said"


@processor("work", name="neighbour")
def neighbour(job):
    """At work as long as the mark is not there."""
    while not os.path.exists(job.data):
        time.sleep(0.01)
    return "done"


@processor("work", name="past the throttle")
def past_the_throttle(job):
    """Progress by frames of its own making: the throttle in the runner is not asked."""
    for number in range(job.data):
        job._channel.progress(b"%d" % number, number)
    return "said"
