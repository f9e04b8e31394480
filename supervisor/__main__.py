"""`python -m supervisor`: the command line, for where no script was installed."""

import sys

from supervisor.cli import main

if __name__ == "__main__":
    sys.exit(main())
