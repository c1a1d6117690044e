"""`python -m inglenook.workers.embedding`."""

import os
import sys

from inglenook.workers.embedding.program import main

if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # At once: the compute thread may be deep inside a model, where nothing can interrupt it.
    os._exit(code)
