"""`python -P -m sandbox template FD`: what the master executes. Not for people."""

from __future__ import annotations

import sys
from typing import NoReturn

from sandbox import template


def main(arguments: list[str]) -> NoReturn:
    if len(arguments) != 2 or arguments[0] != "template" or not arguments[1].isdigit():
        print("usage: python -m sandbox template FD (started by `oxherd run`, not by hand)", file=sys.stderr)
        sys.exit(2)
    sys.exit(template.main(int(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
