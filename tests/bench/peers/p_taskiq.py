"""Taskiq, with its broker that is a Redis list."""

from conf import URL, WORKS
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(URL)
if WORKS:
    from work import do


@broker.task(task_name="job")
async def job(kind: str, i: int) -> None:
    do(kind, i)


class Producer:
    bulk = False

    async def open(self):
        await broker.startup()

    async def add(self, kind, i):
        await job.kiq(kind, i)

    async def close(self):
        await broker.shutdown()
