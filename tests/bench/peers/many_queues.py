"""One module that serves 64 queues, one slot each."""

from work import do

from oxherd import processor

QUEUES = [f"bench-{number}" for number in range(64)]


def work(job):
    do(job.name, job.data["i"])


for each in QUEUES:
    processor(each, concurrency=1)(work)
