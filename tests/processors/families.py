"""What the master's tests of flows run: parents that add children, and children."""

from __future__ import annotations

from oxherd import AskFailed, Job, WaitingChildren, processor


@processor("work")
def work(job: Job):
    return DEEDS[job.data["do"]](job)


@processor("pages")
def page(job: Job):
    if "why" in job.data:
        raise ValueError(job.data["why"])
    return {"page": job.data["n"], "parent": job.parent}


def split(job):
    """Adds its children at the first run, and collects what they returned at the second."""
    values = job.children_values()
    if not values:
        for n in range(job.data["pages"]):
            job.add("pages", "page", {"n": n}, parent=job, job_id=f"{job.id}-{n}-page")
        raise WaitingChildren
    return {"values": values, "attempt": job.attempt}


def wait_for_nobody(job):
    """No child is pending, so it runs again at once; the mark of the first run is its data."""
    if job.data.get("again"):
        return "at once"
    job.update_data({**job.data, "again": True})
    raise WaitingChildren


def tolerate(job):
    """Children of which some fail, under the policy in its data."""
    found = job.dependencies()
    if not (found["processed"] or found["ignored"]):
        policy = {job.data["policy"]: True}
        job.add("pages", "page", {"n": 1, "why": "torn"}, parent=job, job_id="torn", **policy)
        job.add("pages", "page", {"n": 2}, parent=job, job_id="whole")
        raise WaitingChildren
    return {"found": found, "reasons": job.ignored_failures()}


def orphan(job):
    try:
        job.add("pages", "page", {}, parent={"id": "gone", "queue": "work"})
    except AskFailed as error:
        return str(error)


def insist(job):
    """Returns though a child has failed, or waits for it."""
    job.add("pages", "page", {"why": "torn"}, parent=job, job_id="torn", fail_parent_on_failure=True)
    while not job.dependencies()["failed"]:
        pass
    if job.data.get("wait"):
        raise WaitingChildren
    return "done"


def hire(job):
    """Its child is for a worker of another language."""
    if not job.children_values():
        job.add("kids", "echo", "ours", parent=job, job_id="hired")
        raise WaitingChildren
    return list(job.children_values().values())


def collect(job):
    return job.children_values()


DEEDS = {each.__name__: each for each in (split, wait_for_nobody, tolerate, orphan, insist, hire, collect)}
