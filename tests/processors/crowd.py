"""`async def` processors that share a process."""

import asyncio
import ctypes
import os
import resource

from sandbox.processors import processor


@processor("work", per_runner=50)
async def crowd(job):
    do = job.data["do"]
    if do == "meet":
        job.progress(50)
        await asyncio.sleep(job.data.get("s", 0.2))
        job.log(f"met {job.id}")
        return {"pid": os.getpid(), "id": job.id}
    if do == "raise":
        raise ValueError("no")
    if do == "exit":
        raise SystemExit(3)
    if do == "wait":
        await asyncio.sleep(1000)
    if do == "die":
        ctypes.string_at(0)
    if do == "add":
        return job.add("other", "child", {"of": job.id})
    if do == "files":
        await asyncio.sleep(job.data.get("s", 0))
        return [resource.getrlimit(which)[0] for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]
    if do == "task":
        job.log("leaves a task")
        asyncio.get_running_loop().create_task(asyncio.sleep(1000))
        return os.getpid()
    return None
