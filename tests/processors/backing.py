"""Processors with a backoff function of their own."""

from sandbox.errors import Unrecoverable
from sandbox.processors import processor


def by_attempt(attempt, error, job):
    return 100 * attempt + len(str(error)) + job.data


def broken(attempt, error, job):
    raise LookupError("no table")


@processor("work", name="by_attempt", backoff=by_attempt)
def fails(job):
    raise ValueError("12345")


@processor("work", name="give_up", backoff=lambda attempt, error, job: -1)
def fails_for_good(job):
    raise ValueError("no")


@processor("work", name="broken", backoff=broken)
def fails_brokenly(job):
    raise ValueError("no")


@processor("work", name="float", backoff=lambda attempt, error, job: 1.5)
def fails_with_half(job):
    raise ValueError("no")


@processor("work", name="negative", backoff=lambda attempt, error, job: -2)
def fails_with_negative(job):
    raise ValueError("no")


@processor("work", name="unrecoverable", backoff=broken)
def fails_unrecoverably(job):
    raise Unrecoverable("never")


@processor("work", name="plain")
def plain(job):
    raise ValueError("no")
