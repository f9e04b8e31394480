"""The supervising half of Oxherd: producers and readers, the master, the command line.

The other half, `sandbox`, is what runs inside template and runners; it imports nothing from here.
Everything a user needs is re-exported, lazily, by `oxherd`.
"""

# Read by oxherd.py: PyPI has another package of this name (the process manager of 2004).
OXHERD_PACKAGE = "oxherd"

__version__ = "0.1.0"
