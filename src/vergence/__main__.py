"""`python -m vergence` is the command `vergence`."""

import sys

from vergence.command.cli import command

sys.exit(command())
