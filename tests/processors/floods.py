"""Processors that say much more than anybody wants to hear."""

from __future__ import annotations

import os

from oxherd import processor


@processor("work")
def work(job):
    """`data`: what to do, the text, and how often."""
    text, times = job.data["text"], job.data["times"]
    if job.data["do"] == "log":
        for _ in range(times):
            job.log(text)
    else:
        piece = (text * (65_536 // len(text))).encode()
        for _ in range(len(text) * times // len(piece)):
            os.write(1, piece)
    return "said"
