"""Two processors for the same jobs."""

from sandbox.processors import processor


@processor("mail", name="send")
def first(job):
    return 1


@processor("mail", name="send")
def second(job):
    return 2
