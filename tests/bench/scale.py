"""To be written."""


def run(ground, jobs, rounds, wanted): ...
