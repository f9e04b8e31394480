"""PyPI's bullmq: p_bullmq.py CONCURRENCY is a worker."""

import asyncio
import signal
import sys

import bullmq
from conf import QUEUE, URL


class Producer:
    bulk = True

    async def open(self):
        self.queue = bullmq.Queue(QUEUE, {"connection": URL})

    async def add(self, kind, i):
        await self.queue.add(kind, {"i": i})

    async def add_many(self, kind, numbers):
        await self.queue.addBulk([{"name": kind, "data": {"i": i}} for i in numbers])

    async def close(self):
        await self.queue.close()


async def work(concurrency):
    from work import do  # a worker's alone: it opens the file of marks

    async def process(job, token):
        do(job.name, job.data["i"])

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = bullmq.Worker(QUEUE, process, {"connection": URL, "concurrency": concurrency})
    await stop.wait()
    await worker.close()


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
