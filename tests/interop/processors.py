"""What `oxherd run` runs in these tests: the same names that node/harness.mjs knows."""

import ctypes

from sandbox.errors import Unrecoverable
from sandbox.processors import processor


@processor("q", name="echo")
def echo(job):
    return {"echo": job.data, "attempt": job.attempt}


@processor("q", name="fail")
def fail(job):
    raise ValueError(job.data["message"])


@processor("q", name="failOnce")
def fail_once(job):
    if job.attempt == 1:
        raise ValueError("first time")
    return "second time"


@processor("q", name="unrecoverable")
def unrecoverable(job):
    raise Unrecoverable(job.data["message"])


@processor("q", name="crash", max_crashes=2)
def crash(job):
    print("its last words", flush=True)
    ctypes.string_at(0)


@processor("q", name="talk")
def talk(job):
    job.progress(10)
    job.log("one row")
    job.progress({"half": True})
    return job.data
