"""What can be done about a layer that is not in force, in the words of whoever runs the host.

Judges nothing: which layers there are, and why one is not in force, the runner of a trial has told.
"""

from __future__ import annotations

from typing import Final

_NAMESPACES: Final = (
    "user namespaces must be allowed: sysctl user.max_user_namespaces, and where there is one "
    "kernel.apparmor_restrict_unprivileged_userns=0"
)
_USER: Final = "a [policy] user who may read the interpreter, the modules and their libraries"
# Part of a layer's name, and how it is had. The first that fits counts.
_REMEDIES: Final = (
    ("scoped", "Linux 6.12: signals and abstract sockets are scoped from Landlock ABI 6 on"),
    ("tcp", "Linux 6.7: TCP is ruled from Landlock ABI 4 on"),
    ("file_rules", "Linux 5.13 with landlock among its security modules (boot with lsm=landlock,...)"),
    ("denied", "x86_64 or aarch64, and a container whose own filter lets seccomp(2) through"),
    ("cgroup_cpu", "run under systemd with Delegate=yes, or with cpu among the controllers that it lists"),
    ("cgroup", "run under systemd with Delegate=yes, which gives the service a cgroup v2 of its own"),
    ("namespace", _NAMESPACES),
    ("user", _USER),
    ("uid", _USER),
    ("oom_score_adj", "/proc must be mounted writable"),
    ("batch_scheduling", "a container whose filter lets sched_setscheduler(2) through; jobs run without it"),
    ("directory", "the temporary directory (TMPDIR) must be writable"),
)


def remedy_of(layer: str) -> str:
    """How to get this layer; empty when we do not know."""
    return next((text for part, text in _REMEDIES if part in layer), "")
