"""Makes a server count the objects that only a garbage collection can free: between SIGUSR1 and SIGUSR2.

Python imports it at its start where this directory is in ``PYTHONPATH``. The number goes to the log.
"""

import gc
import signal
import sys


def _begin(*_: object) -> None:
    gc.collect()
    gc.disable()


def _tell(*_: object) -> None:
    sys.stderr.write(f"garbage={gc.collect()}\n")
    sys.stderr.flush()
    gc.enable()


signal.signal(signal.SIGUSR1, _begin)
signal.signal(signal.SIGUSR2, _tell)
