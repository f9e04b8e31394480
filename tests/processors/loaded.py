"""A processor that answers which modules its template and its runner have loaded."""

from __future__ import annotations

import sys

AT_IMPORT = sorted(sys.modules)


def told(job: object) -> dict[str, list[str]]:
    return {"template": AT_IMPORT, "runner": sorted(sys.modules)}
