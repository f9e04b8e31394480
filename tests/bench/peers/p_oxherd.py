"""Oxherd: the processor, and how jobs are added."""

from conf import QUEUE, URL, WORKS

if WORKS:
    from work import do


def job(job):
    do(job.name, job.data["i"])


class Producer:
    bulk = True

    async def open(self):
        from oxherd import Queue  # here: a runner has no need of it

        self.queue = Queue(QUEUE, url=URL, prefix="bull")
        await self.queue.connect()

    async def add(self, kind, i):
        await self.queue.add(kind, {"i": i})

    async def add_many(self, kind, numbers):
        await self.queue.add_bulk([(kind, {"i": i}) for i in numbers])

    async def close(self):
        await self.queue.close()
