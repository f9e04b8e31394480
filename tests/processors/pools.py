"""Jobs that use processes and threads of their own, as they may."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from joblib import Parallel, delayed

from oxherd import processor


def square(number):
    return number * number


@processor("work", name="nothing")
def nothing(job):
    return os.getpid()


@processor("work", name="pool")
def pool(job):
    with multiprocessing.get_context(job.data).Pool(2) as workers:
        return workers.map(square, range(4))


@processor("work", name="process")
def process(job):
    one = multiprocessing.get_context(job.data).Process(target=square, args=(2,))
    one.start()
    one.join()
    return one.exitcode


@processor("work", name="executor")
def executor(job):
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        return [*threads.map(square, range(2)), *processes.map(square, range(2, 4))]


@processor("work", name="joblib")
def joblib(job):
    return Parallel(n_jobs=2, prefer=job.data)(delayed(square)(number) for number in range(4))


@processor("work", name="subprocesses")
def subprocesses(job):
    return subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout


@processor("work", name="hangs in a pool")
def hangs_in_a_pool(job):
    with multiprocessing.get_context(job.data).Pool(2) as workers:
        job.progress([each.pid for each in multiprocessing.active_children()])
        workers.map(hang, range(2))


def hang(number):
    while True:
        pass
