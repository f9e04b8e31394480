"""The inner half of Oxherd: what runs in the template and in the runners.

It needs the standard library and nothing else, so that a user's processor meets no foreign module of ours.
"""

# Read by oxherd.py, which refuses to start on a package of the same name that is not ours.
OXHERD_PACKAGE = "oxherd"
