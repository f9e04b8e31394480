"""The supervising half of Oxherd: producers and readers, the master, the command line.

The other half, `sandbox`, is what runs inside template and runners; it imports nothing from here.
Everything a user needs is re-exported, lazily, by `oxherd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.client.listening import listen as listen

# Read by oxherd.py: PyPI has another package of this name (the process manager of 2004).
OXHERD_PACKAGE = "oxherd"

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "listen":
        raise AttributeError(f"module 'supervisor' has no attribute {name!r}")
    # At the top it would load the Redis client wherever anything of ours is imported.
    from supervisor.client.listening import listen

    return listen
