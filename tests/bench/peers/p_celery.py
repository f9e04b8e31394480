"""Celery."""

from celery import Celery
from conf import URL, WORKS

app = Celery("p_celery", broker=URL)
app.conf.update(
    task_ignore_result=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True
)
if WORKS:
    from work import do


@app.task(name="job")
def job(kind, i):
    do(kind, i)


class Producer:
    bulk = False

    async def open(self):
        pass

    async def add(self, kind, i):
        job.delay(kind, i)

    async def close(self):
        pass
