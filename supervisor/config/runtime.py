"""Where a running master's control socket is, and where a command looks for it.

Decides   which directories, in which order; not whether one may be trusted, which whoever uses it looks at
Reads     nothing but the environment it is given

One file a master: `<pid>.sock`. The first place that can be used is the master's; a command looks at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET: Final = "{pid}.sock"
NAMED_BY: Final = "OXHERD_RUNTIME_DIR"
OF_THE_HOST: Final = Path("/run/oxherd")  # systemd's RuntimeDirectory=oxherd, or one below it for an instance


def runtime_dirs(env: Mapping[str, str], state_dir: Path) -> list[Path]:
    """The directories, best first: the one that `$OXHERD_RUNTIME_DIR` names, alone; else those of the host,
    of the session, and of the user.

    state_dir   where this user's state is ([embedded] state_dir).
    """
    if named := env.get(NAMED_BY):
        return [Path(named)]
    found = [OF_THE_HOST]
    if (session := env.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        found.append(Path(session) / "oxherd")
    found.append(state_dir / "run")
    given = env.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # what systemd made for this unit
    if given and any(Path(given).is_relative_to(each) for each in found):
        found.insert(0, Path(given))
    return list(dict.fromkeys(found))


def where_to_look(env: Mapping[str, str], state_dir: Path) -> list[Path]:
    """The same, as a command sees it: root also finds the masters of the users who are logged in."""
    found = runtime_dirs(env, state_dir)
    if os.geteuid() == 0 and not env.get(NAMED_BY):
        found += sorted(Path("/run/user").glob("*/oxherd"))
    return list(dict.fromkeys(found))
