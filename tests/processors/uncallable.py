"""Functions that cannot be called with a job, and one that only looks as if it could not."""

import functools


def of_two(job, other):
    return other


def of_none():
    return None


class Method:
    def work(self, job):
        return job


def with_other(function):
    @functools.wraps(function)
    def wrapper(job):
        return function(job, "other")

    return wrapper


wrapped = with_other(of_two)
