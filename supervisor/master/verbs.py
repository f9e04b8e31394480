"""What may be asked of a running master: the verbs of the control socket, and what each is given.

Decides whether a question is complete and names what there is; what a verb does is the work of the part that
is asked. A verb is an `async` function from the members of the question to those of the answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec import structs

from supervisor.errors import JobNotFound, MasterRefused, UsageError
from supervisor.master.control import Verb, only
from supervisor.master.looking import Looking
from supervisor.master.signals import Request
from supervisor.master.snapshot import snapshot
from supervisor.master.worker import MOST_SLOTS, Worker
from supervisor.protocol.commands.cancel import FAILED_BY_IT, CancelJob, new_request

if TYPE_CHECKING:
    from supervisor.master.main import Master


class Verbs:
    """The verbs of one master. `table` may get others."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.table: dict[str, Verb] = {
            "snapshot": self._snapshot,
            "quiet": self._quiet,
            "resume": self._resume,
            "stop": self._stop,
            "scale": self._scale,
            "reload": self._reload,
            "recycle": self._recycle,
            "cancel": self._cancel,
        }
        self.looking = Looking(master)
        self.table.update(self.looking.verbs())

    def workers(self, asked: dict[str, Any]) -> list[Worker]:
        """Those of the queue that is named, or all. Raises `UsageError` for a queue that is not served."""
        name = asked.get("queue")
        serving = [each for each in self._master.workers if not each.leaving]
        found = [each for each in serving if name is None or each.keys.name == name]
        if name is not None and not found:
            served = ", ".join(repr(each.keys.name) for each in serving)
            raise UsageError(f"this master does not serve a queue {name!r}; it serves {served}")
        return found

    async def _snapshot(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, queue=str)
        found = snapshot(self._master)
        if (name := asked.get("queue")) is not None:
            self.workers(asked)
            found["queues"] = [each for each in found["queues"] if each["name"] == name]
            found["slots"] = [each for each in found["slots"] if each["queue"] == name]
        return found

    async def _quiet(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, queue=str)
        return self._told(Request.QUIET, asked)

    async def _resume(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, queue=str)
        return self._told(Request.RESUME, asked)

    def _told(self, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        workers = self.workers(asked)
        self._refuse_while_stopping()
        self._master.crew.tell(request, workers)
        if self._master.watchdog is not None:
            self._master.watchdog.say()  # `systemctl status`, a moment later, has it in its line
        return {"queues": [each.keys.name for each in workers]}

    async def _stop(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked)
        self._master.request(Request.STOP)
        return {"running": sum(each.running() for each in self._master.workers)}

    async def _scale(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, by=int, queue=str)
        by, workers = asked.get("by"), self.workers(asked)
        if not by or abs(by) > MOST_SLOTS:
            raise UsageError(f"by is how many slots more, or less: -{MOST_SLOTS} to {MOST_SLOTS}, not {by}")
        self._refuse_while_stopping()
        own = [each for each in workers if each.member is None]
        pool = self._master.pool if len(own) < len(workers) else None
        for worker in own:
            _refuse_beyond(f"queue {worker.keys.name!r}", worker.settings.concurrency, by, (1, MOST_SLOTS))
        if pool is not None:
            _refuse_beyond("the pool", pool.slots, by, pool.bounds())
        self._master.crew.scale(by, workers)
        done: dict[str, Any] = {
            "queues": [{"name": each.keys.name, "slots": each.settings.concurrency} for each in own]
        }
        return done if pool is None else {**done, "pool": {"slots": pool.slots}}

    async def _reload(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked)
        done: dict[str, Any] = structs.asdict(await self._master.reloading.reload())
        return done

    async def _recycle(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, queue=str)
        workers = self.workers(asked)
        self._refuse_while_stopping()
        return {"runners": sum(each.places.replace_runners("it was asked for") for each in workers)}

    async def _cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        """As `oxherd cancel`, by the master's own connection."""
        only(asked, queue=str, id=str, reason=str, by=str)
        if not asked.get("queue") or not asked.get("id"):
            raise UsageError("cancel needs the queue and the id of a job")
        [worker] = self.workers(asked)
        redis, now_ms = self._master.redis, round(time.time() * 1000)
        if redis is None:
            raise MasterRefused("the master is not connected yet; nothing was cancelled")
        request = new_request(asked.get("reason") or "", asked.get("by") or "the control socket", now_ms)
        try:
            code = await redis.execute(CancelJob(worker.keys, asked["id"], request, now_ms))
        except JobNotFound:
            raise MasterRefused(
                f"queue {asked['queue']!r} has no job {asked['id']!r}; nothing was cancelled"
            ) from None
        return {"id": asked["id"], "state": "cancelled" if code == FAILED_BY_IT else "asked"}

    def _refuse_while_stopping(self) -> None:
        if self._master.stopping:
            raise MasterRefused("the master is stopping; nothing was changed")


def _refuse_beyond(who: str, slots: int, by: int, bounds: tuple[int, int]) -> None:
    least, most = bounds
    if not least <= slots + by <= most:
        raise MasterRefused(
            f"{who} has {slots} slots, and may have {least} to {most}; nothing was changed (quiet fetches "
            "nothing and keeps the slots)"
        )
