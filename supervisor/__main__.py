"""`python -m supervisor`: the command line, for where no script was installed."""

import os
import sys

# `python -m` looks for modules in the working directory first: a click.py there would be taken for the
# library. The script does not look there either; a TARGET is looked for by the template.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not sys.flags.safe_path and sys.path and os.path.abspath(sys.path[0]) != _HOME:
    del sys.path[0]

from supervisor.cli import main  # noqa: E402 (after the path is what it should be)

if __name__ == "__main__":
    sys.exit(main())
