"""What every backend on torch needs: safe loading, threads, and what a batch may cost."""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.utils import logging

from inglenook.workers.embedding.backends.base import Batching, Floats, ModelSettings

LANES = 4
VERY_LONG = 1 << 24
"""Tokenizers without a bound name a length beyond this one."""


@dataclass(frozen=True)
class Machine:
    """What there is to compute with."""

    threads: int
    batching: Batching

    def claim(self, *, alone: bool) -> None:
        """Let the thread that calls this compute with its share of the machine, or with all of it."""
        torch.set_num_threads(self.threads if alone else max(1, self.threads // self.batching.lanes))


def prepare(settings: ModelSettings) -> Machine:
    """Set torch up for ``settings``; call it before anything is loaded.

    Afterwards no pickle is executed by loading weights, whatever the files of a model ask for.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    quiet: Any = logging.disable_progress_bar
    quiet()
    threads = settings.threads or torch.get_num_threads()
    batching = _batching(threads)
    return Machine(threads, replace(batching, most=settings.batch_tokens or batching.most))


def bound(length: int | None, model: torch.nn.Module, wish: int) -> int:
    """Return how many tokens ``model`` reads at most; 0: no bound.

    ``length`` is what its tokenizer says, and ``wish`` what the settings say.
    """
    limits = [length or 0, positions(model), wish]
    return min((limit for limit in limits if 0 < limit < VERY_LONG), default=0)


def positions(model: torch.nn.Module) -> int:
    """Return how many positions ``model`` has learned; 0 when it is not limited by any.

    Models of the RoBERTa family count from behind their padding id: tokenizers that forget so would let
    texts in that the model fails on.
    """
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            skipped = getattr(module, "padding_idx", None)
            return int(table.num_embeddings) - (skipped + 1 if isinstance(skipped, int) else 0)
    return 0


def device() -> str:
    """Return where models compute: on a GPU where there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def vocabulary(model: Any) -> int:
    """Return how many token ids ``model`` knows."""
    return int(model.get_input_embeddings().num_embeddings)


def to_numpy(values: torch.Tensor) -> Floats:
    """Return ``values`` as float32 on the CPU."""
    array: Floats = values.float().cpu().numpy()
    return array


def _batching(threads: int) -> Batching:
    if device() != "cpu":
        return Batching(most=1 << 15, overhead=512)
    # Measured with all-MiniLM-L6-v2: one core is as fast as it gets with 150 tokens at a time, and a batch
    # costs as much as 28 tokens before the first. Longer batches only make others wait. Threads of one
    # batch wait for each other a hundred times in a pass, which is why two batches, a thread each, come
    # further than two threads in one.
    lanes = min(threads, LANES)
    share = threads // lanes
    return Batching(most=1024 * share, overhead=32 * share, lanes=lanes)
