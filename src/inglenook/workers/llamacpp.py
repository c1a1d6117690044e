"""The built-in engine: llama.cpp's own server in a process of its own, as an engine program.

`python -m inglenook.workers.llamacpp FLAGS...` takes the flags of `llama-server`, so that a real
`llama-server` can stand in for it with the same arguments. It listens on the unix socket that `--host`
names until it is killed. Exit code 2: a flag that it does not have; 1: the model did not load, and
llama.cpp's own lines on stderr say why.
"""

import signal
import sys
from collections.abc import Sequence

import xllamacpp

from inglenook.workers.leash import tie_to_parent
from inglenook.workers.llamacpp_flags import FlagError, read_flags

NOWHERE = "/nonexistent"


def main(argv: Sequence[str]) -> int:
    """Serve until a signal ends the process; return an exit code when it does not come to that."""
    tie_to_parent()
    try:
        params = read_flags(argv, xllamacpp)
    except FlagError as wrong:
        sys.stderr.write(f"llamacpp: {wrong}\n")
        return 2
    # What llama.cpp cannot decode it hands to ffprobe from PATH, which would follow a playlist's addresses.
    params.video_ffmpeg_bin_dir = NOWHERE
    _die_of_signals()
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        sys.stderr.write("llamacpp: the model did not load; the lines above say why\n")
        return 1
    # Some builds of the library put handlers in place that wait for running answers.
    _die_of_signals()
    sys.stderr.write(f"llamacpp: ready on {server.listening_address}\n")
    while True:
        signal.pause()


def _die_of_signals() -> None:
    """Let the kernel end the process: nothing here has to be put away, and no load can delay it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
