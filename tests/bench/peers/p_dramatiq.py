"""Dramatiq."""

import dramatiq
from conf import URL, WORKS
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=URL))
if WORKS:
    from work import do


@dramatiq.actor(max_retries=0)
def job(kind, i):
    do(kind, i)


class Producer:
    bulk = False

    async def open(self):
        pass

    async def add(self, kind, i):
        job.send(kind, i)

    async def close(self):
        pass
