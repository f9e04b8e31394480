"""Huey."""

from conf import QUEUE, URL, WORKS
from huey import RedisHuey

huey = RedisHuey(QUEUE, url=URL, results=False)
if WORKS:
    from work import do


@huey.task()
def job(kind, i):
    do(kind, i)


class Producer:
    bulk = False

    async def open(self):
        pass

    async def add(self, kind, i):
        job(kind, i)

    async def close(self):
        pass
