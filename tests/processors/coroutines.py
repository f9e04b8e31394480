"""`async def` processors."""

import asyncio
import time

from sandbox.processors import processor

left_behind = []
cancelled = []


@processor("work", name="echo")
async def echo(job):
    await asyncio.sleep(0)
    job.progress(100)
    return job.data


@processor("work", name="loop")
async def loop(job):
    return id(asyncio.get_running_loop())


@processor("work", name="leave_task")
async def leave_task(job):
    async def linger():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(job.id)
            raise

    left_behind.append(asyncio.get_running_loop().create_task(linger()))
    await asyncio.sleep(0)


@processor("work", name="cancelled")
async def tell_cancelled(job):
    return cancelled


@processor("work", name="sleep")
async def sleep(job):
    await asyncio.sleep(1000)


@processor("work", name="spin")
async def spin(job):
    while True:
        time.monotonic()


@processor("work", name="raise")
async def raise_it(job):
    await asyncio.sleep(0)
    raise ValueError("from a coroutine")


@processor("work", name="cancel_itself")
async def cancel_itself(job):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)
