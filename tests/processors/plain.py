"""Plain functions, without a decorator."""

ANSWER = 42


def double(job):
    return job.data * 2


class Group:
    @staticmethod
    def triple(job):
        return job.data * 3
