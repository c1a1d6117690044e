"""Linear layers with weights laid out for the CPU once, at load: five sixths of what an encoder computes.

torch lays them out anew, or does without, at every call. Measured with all-MiniLM-L6-v2: in float32 the same
vectors (to 3e-7) in 0.87 of the time, and less for a lone short text; in bfloat16, on a CPU that multiplies
it, in 0.55 of the time, with a cosine of 0.9999 to the float32 ones. `docs/embeddings.md` has the table.

The layout is oneDNN's, by operators that torch makes for its own compiler: they are no promise, so nothing is
taken on trust. A model whose vectors are not the same afterwards is loaded once more, and left as it is.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from inglenook.workers.embedding.backends.base import Batched, Floats, ModelSettings, Reranker

ROWS = 256
"""The batch that the layout is made for. Measured: from 16 to 1024 it makes no difference to any batch."""
NARROW = 64
"""Layers below this width stay: they cost nothing, and what a classifier says should not be rounded."""
PROBES = ("a", "What is the weather like in Oslo?", "The cat sleeps on the sofa while it rains. " * 3)
SAME = 1e-5
ALIKE = 0.2

Kind = TypeVar("Kind", bound=Batched | Reranker)
Make: TypeAlias = Callable[[], tuple[torch.nn.Module, Kind]]


class Packed(torch.nn.Module):
    """A `torch.nn.Linear` that multiplies in ``dtype``. What goes in and comes out has the type it had."""

    def __init__(self, layer: torch.nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._dtype = dtype
        weight = layer.weight.detach().to(dtype).contiguous()
        # No buffers: nothing that walks over those could read the layout.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return what the layer would."""
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            values.to(self._dtype), self._weight, self._bias, "none", [], ""
        )
        return made.to(values.dtype)


def hastened(make: Make[Kind], settings: ModelSettings) -> Kind:
    """Return what ``make`` loads, as fast as its precision allows on this machine.

    Raise `ValueError` where the precision asked for is not to be had. Whatever ``make`` raises says why the
    model cannot be loaded.
    """
    model, backend = make()
    if settings.precision:
        model.float()
    rounded = settings.precision == "bfloat16"
    if any(each.device.type != "cpu" for each in model.parameters()):
        # On a GPU every kernel is a fast one for what the weights are.
        if rounded:
            model.bfloat16()
        return backend
    available: Any = torch.backends.mkldnn.is_available
    able = available()
    if rounded and not (able and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        raise ValueError("precision: this CPU cannot compute in bfloat16")
    before = _vectors(backend) if able else None
    if before is None:
        return backend
    pack(model, torch.bfloat16 if rounded else torch.float32)
    if _agree(_vectors(backend), before, exact=not rounded):
        return backend
    if rounded:
        raise ValueError("precision: this model cannot compute in bfloat16")
    sys.stderr.write("I embedding: the model keeps its own linear layers\n")
    # Never two models at once: a large one may be all that the memory holds.
    del model, backend
    return make()[1]


def pack(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Replace the float32 linear layers within ``model``.

    Layers of another type stay, and so do those of a subclass, which may do anything.
    """
    # A list of all modules would keep the weights that are replaced until the last has been.
    parents = [module for module in model.modules() if not isinstance(module, torch.nn.Linear)]
    for parent in parents:
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and _is_worth_it(layer):
                setattr(parent, name, Packed(layer, dtype))


def _is_worth_it(layer: torch.nn.Linear) -> bool:
    return min(layer.in_features, layer.out_features) >= NARROW and layer.weight.dtype is torch.float32


def _vectors(backend: Batched | Reranker) -> Floats | None:
    """Return the vectors of a few texts, None where that fails."""
    try:
        if isinstance(backend, Reranker):
            read = backend.read_pairs(PROBES[0], PROBES, truncate=True)
        else:
            read = backend.read(PROBES, truncate=True)
        return backend.compute(read.items, frozenset(("dense",)), alone=True).dense
    except (AttributeError, RuntimeError, TypeError, ValueError):
        # A model whose own code reads the weights of a layer, say.
        return None


def _agree(after: Floats | None, before: Floats, *, exact: bool) -> bool:
    if after is None:
        return False
    off = after - before
    if exact:
        return bool(np.abs(off).max() <= SAME * max(1.0, np.abs(before).max()))
    return bool(np.linalg.norm(off) <= ALIKE * np.linalg.norm(before))
