"""``python -m jisu`` is the ``jisu`` command."""

import sys

from jisu.command_line import main

if __name__ == "__main__":
    sys.exit(main())
