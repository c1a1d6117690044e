"""The sentence-transformers library at its best and at its plainest, as a program of its own.

    python -m inglenook.bench.library

reads ``{"directory": ..., "texts": [...]}`` on one line, loads the model, says what it is, and then
does what each further line asks: ``ideal``, ``unbatched``, ``vectors N`` or ``serve``. One line of JSON each.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from inglenook.bench.plain_server import serve

BATCH_SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
TRIES = 2
# How many texts a batch size is tried on: as many as one try may take time for.
FEWEST, MOST = 32, 1024
TRY_SECONDS = 1.5


class Library:
    """A loaded model and the texts that it is timed on."""

    def __init__(self, directory: str, texts: Sequence[str]) -> None:
        module: Any = importlib.import_module("sentence_transformers")
        self._version = str(module.__version__)
        self._model = module.SentenceTransformer(directory, local_files_only=True)
        self._texts = texts
        # Sorted, no text is padded to a longer stranger. (`encode` would do it too.)
        self._sorted = sorted(texts, key=len, reverse=True)
        self._batch_size = self._best_batch_size()

    def about(self) -> dict[str, object]:
        """What was loaded, and the batch size that proved fastest here."""
        return {
            "sentence_transformers": self._version,
            "device": str(self._model.device),
            "batch_size": self._batch_size,
        }

    def perform(self, order: str) -> dict[str, object]:
        """Do what a line asks."""
        match order.split():
            case ["ideal"]:
                return {"seconds": self._seconds(self._sorted, self._batch_size)}
            case ["unbatched"]:
                begun = time.perf_counter()
                for text in self._texts:
                    self._model.encode(text, show_progress_bar=False)
                return {"seconds": time.perf_counter() - begun}
            case ["vectors", count]:
                return {"vectors": self._vectors(list(self._texts[: int(count)]))}
            case ["serve"]:
                return {"port": serve(self._vectors)}
        raise ValueError(f"unknown order: {order}")

    def _vectors(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._model.encode(texts, show_progress_bar=False).tolist()
        return vectors

    def _best_batch_size(self) -> int:
        few = self._spread(FEWEST)
        self._seconds(few, 8)
        per_text = self._seconds(few, 8) / len(few)
        sample = self._spread(max(FEWEST, min(MOST, int(TRY_SECONDS / per_text))))
        usable = [size for size in BATCH_SIZES if size <= len(sample)] or [1]
        return min(usable, key=lambda size: min(self._seconds(sample, size) for _ in range(TRIES)))

    def _spread(self, count: int) -> Sequence[str]:
        # Evenly from all lengths, or a sample of long texts would choose for the short ones.
        return self._sorted[:: max(1, len(self._sorted) // count)][:count]

    def _seconds(self, texts: Sequence[str], batch_size: int) -> float:
        begun = time.perf_counter()
        self._model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)
        return time.perf_counter() - begun


def main() -> int:
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # Libraries print; only we may on what is read.
        told = json.loads(sys.stdin.readline())
        library = Library(told["directory"], told["texts"])
        _say(out, library.about())
        for line in sys.stdin:
            _say(out, library.perform(line))
    return 0


def _say(out: TextIO, told: dict[str, object]) -> None:
    out.write(json.dumps(told) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
