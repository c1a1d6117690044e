"""``python -m inglenook``."""

import sys

from inglenook.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
