"""Jobs that do not want to end, each in another way. `started` is logged when there is no way back."""

import asyncio
import hashlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sandbox.errors import Cancelled
from sandbox.processors import processor


def named(name):
    return processor("work", name=name)


@named("echo")
def echo(job):
    return job.data


@named("polite")
def polite(job):
    """Looks, and raises."""
    job.log("started")
    while not job.cancelled:
        time.sleep(0.005)
    raise Cancelled(job.cancel_reason)


@named("returns")
def returns(job):
    """Looks, and returns: it has done enough."""
    job.log("started")
    while not job.cancelled:
        time.sleep(0.005)
    return {"why": job.cancel_reason}


@named("raises_its_own")
def raises_its_own(job):
    job.log("started")
    while not job.cancelled:
        time.sleep(0.005)
    raise RuntimeError("I was in the middle of something")


@named("cancels_itself")
def cancels_itself(job):
    raise Cancelled("nothing to be done")


@named("loop")
def loop(job):
    job.log("started")
    while True:
        pass


@named("sleep")
def sleep(job):
    job.log("started")
    time.sleep(1000)


@named("cleans_up")
def cleans_up(job):
    try:
        job.log("started")
        time.sleep(1000)
    finally:
        time.sleep(0.6)
        job.log("cleaned up")


@named("swallows_exceptions")
def swallows_exceptions(job):
    job.log("started")
    while True:
        try:
            time.sleep(0.01)
            raise ValueError("again")
        except Exception:
            continue


@named("swallows_everything")
def swallows_everything(job):
    job.log("started")
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


@named("in_c")
def in_c(job):
    """Holds the interpreter: no handler runs before it is over."""
    job.log("started")
    max(itertools.repeat(1))


@named("hashes")
def hashes(job):
    """One long call into C that lets others run, as NumPy's do."""
    job.log("started")
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)


@named("ignores_signals")
def ignores_signals(job):
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_IGN)
    job.log("started")
    while True:
        time.sleep(0.01)


@named("subprocess")
def in_subprocess(job):
    program = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(1000)"
    job.log("started")
    subprocess.run([sys.executable, "-c", program, job.data["file"]], check=True)


@named("deaf_subprocess")
def in_deaf_subprocess(job):
    """Neither the processor nor its process wants to end."""
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, job.data["file"]])
    job.log("started")
    while True:
        try:
            process.wait()
        except BaseException:
            continue


def forever(file):
    with Path(file).open("a") as out:
        print(os.getpid(), file=out)
    time.sleep(1000)


@named("pool")
def in_pool(job):
    job.log("started")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(forever, [job.data["file"]] * 2)


@named("asks")
def asks(job):
    """Waits for an answer of the master again and again."""
    job.log("started")
    while True:
        job.children_values()


@named("coroutine")
async def coroutine(job):
    try:
        job.log("started")
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.3)
        job.log("cleaned up")


@named("deaf_coroutine")
async def deaf_coroutine(job):
    job.log("started")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            continue


@named("blocks_the_loop")
async def blocks_the_loop(job):
    job.log("started")
    while True:
        try:
            time.sleep(0.01)  # noqa: ASYNC251 (what it must not do)
        except BaseException:
            continue


@named("moment")
def moment(job):
    """Now and then a little longer."""
    time.sleep(job.data / 1000)
    return job.data
