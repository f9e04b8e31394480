"""A processor with every limit."""

from sandbox.processors import processor


@processor(
    "thumbnails",
    name="resize",
    concurrency=2,
    timeout="1.5m",
    soft_timeout="500ms",
    memory="512M",
    backoff=lambda attempt, error, job: 1,
)
def resize(job):
    return job.id


@processor("thumbnails")
def rest(job):
    return None
