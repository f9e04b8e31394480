"""Pages of several groups of a job's children at once; what one page is, `flow.py` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.flow import ChildrenPage, ScanChildren
from supervisor.protocol.keys import QueueKeys


class ScanGroups(msgspec.Struct, frozen=True):
    """A page of each of several groups of a job's children, in one round trip."""

    queue: QueueKeys
    job_id: str
    cursors: Mapping[str, int]  # by group, where its page begins
    count: int = 20

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [request for scan in self._scans() for request in scan.requests()]

    def decode(self, reply: Reply) -> dict[str, ChildrenPage]:
        return {scan.group: scan.decode([page]) for scan, page in zip(self._scans(), reply, strict=True)}

    def _scans(self) -> list[ScanChildren]:
        return [
            ScanChildren(self.queue, self.job_id, group, cursor, self.count)
            for group, cursor in self.cursors.items()
        ]
