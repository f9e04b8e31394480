"""PyPI's bullmq behind JSON lines, as node/harness.mjs; runs in a virtual environment of its own.

In   {"seq", "do": "queue" | "job" | "worker" | "close", "queue", ...}, one object a line
Out  {"seq", "ok"} or {"seq", "error"}, and {"told": "worker", "queue", "name", "args"}
"""

import asyncio
import contextlib
import json
import sys

from bullmq import Job, Queue, Worker

url = sys.argv[1]
queues = {}
workers = {}


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "id") and hasattr(value, "opts"):
        return {"id": value.id, "name": value.name, "data": value.data}
    return value


async def echo(job):
    return {"echo": job.data}


async def fail(job):
    raise ValueError(job.data["message"])


async def talk(job):
    await job.updateProgress(10)
    await job.log("one row")
    return job.data


PROCESSORS = {"echo": echo, "fail": fail, "talk": talk}


async def process(job, token):
    return await PROCESSORS[job.name](job)


async def do(request):
    if request["do"] == "close":
        while workers:
            # Its close may wait for ever for a job that it has just finished.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(workers.popitem()[1].close(force=True), 2)
        while queues:
            await queues.popitem()[1].close()
        return None
    name = request["queue"]
    if name not in queues:
        queues[name] = Queue(name, {"connection": url})
    if request["do"] == "job":
        job = await Job.fromId(queues[name], request["id"])
        shown = ("name", "data", "returnvalue", "failedReason", "attemptsMade", "progress")
        return {field: getattr(job, field) for field in shown}
    if request["do"] == "queue":
        return plain(await getattr(queues[name], request["method"])(*request.get("args", [])))
    if request["do"] == "worker":
        worker = Worker(name, process, {"connection": url, **request.get("opts", {})})
        worker.on("completed", lambda job, result: tell(name, "completed", [job.id, result]))
        worker.on("failed", lambda job, error: tell(name, "failed", [job.id, str(error)]))
        workers[name] = worker
    return None


def tell(queue, name, args):
    say({"told": "worker", "queue": queue, "name": name, "args": args})


async def main():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        try:
            say({"seq": request["seq"], "ok": await do(request)})
        except Exception as error:  # the tests judge it
            say({"seq": request["seq"], "error": str(error)})


asyncio.run(main())
