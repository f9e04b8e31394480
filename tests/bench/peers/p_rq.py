"""RQ."""

from conf import HOST, PORT, QUEUE, WORKS
from redis import Redis
from rq import Queue

if WORKS:
    from work import do


def job(kind, i):
    do(kind, i)


class Producer:
    bulk = True

    async def open(self):
        self.queue = Queue(QUEUE, connection=Redis(HOST, PORT))

    async def add(self, kind, i):
        self.queue.enqueue("p_rq.job", kind, i, result_ttl=0)

    async def add_many(self, kind, numbers):
        self.queue.enqueue_many([Queue.prepare_data("p_rq.job", (kind, i), result_ttl=0) for i in numbers])

    async def close(self):
        pass
