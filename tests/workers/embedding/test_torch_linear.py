"""Linear layers that were laid out for the CPU, against torch's own. Needs the extra `local`."""

import os
import subprocess
import sys
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import pytest
import torch

from inglenook.workers.embedding.backends import linear
from inglenook.workers.embedding.backends.base import Encoded, Facts, Inputs, Kind, ModelSettings, Vectors
from inglenook.workers.embedding.backends.linear import Packed, hastened, pack
from inglenook.workers.embedding.flags import read_settings
from inglenook.workers.embedding.program import FOR_TORCH
from inglenook.workers.embedding.program import load as load_worker

WIDTH = linear.NARROW
SHAPES = [(1, WIDTH), (7, WIDTH), (3, 5, WIDTH), (2, 300, WIDTH), (WIDTH,)]
FLOAT32, BFLOAT16 = ModelSettings(model=""), ModelSettings(model="", precision="bfloat16")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same weights at every run."""
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_packed_layer_computes_what_the_layer_did(shape: tuple[int, ...], bias: bool) -> None:
    """Any number of dimensions, of any stride; in float32 to rounding, in bfloat16 to its own."""
    layer = torch.nn.Linear(WIDTH, 3 * WIDTH, bias=bias)
    whole = torch.randn(shape)
    apart = torch.randn(*shape, 2)[..., 0]
    for values in (whole, apart, torch.randn(2, *shape)[:, 0] if len(shape) > 1 else whole):
        expected = layer(values)
        exact, rounded = (Packed(layer, dtype)(values) for dtype in (torch.float32, torch.bfloat16))
        assert exact.dtype == rounded.dtype == torch.float32
        torch.testing.assert_close(exact, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(rounded, expected, atol=0.05, rtol=0)


class Own(torch.nn.Linear):
    """What a subclass does with its weights is its own affair."""


def test_only_wide_plain_layers_are_packed() -> None:
    """A classifier's few outputs, halves, and layers of other kinds stay as they are."""
    inner = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), Own(WIDTH, WIDTH))
    model = torch.nn.Sequential(inner, torch.nn.Linear(WIDTH, 1), torch.nn.Linear(WIDTH, WIDTH).half())
    pack(model, torch.float32)
    kinds = [type(each).__name__ for each in (*inner, *list(model)[1:])]
    assert kinds == ["Packed", "Own", "Linear", "Linear"]


class Toy:
    """A `Batched` backend on a small network; a text is as many ones as it has letters."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.facts = Facts(dimension=WIDTH, normalized=False)
        self.network = network

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Count letters."""
        return Encoded(list(inputs), list(map(len, inputs)))

    def compute(self, items: Sequence[Any], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Pass them through the network."""
        given = torch.stack([torch.arange(WIDTH) < len(item) for item in items]).float()
        with torch.inference_mode():
            return Vectors(dense=self.network(given).numpy())


class Plain(torch.nn.Module):
    """A model as most are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        made: torch.Tensor = self.layer(values)
        return made


class Reading(Plain):
    """A model whose own code reads the weights of a layer."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply by hand."""
        return values @ self.layer.weight.T


class Changed(Plain):
    """A model that goes another way when a layer is none of torch's."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply, or do not."""
        return super().forward(values) if isinstance(self.layer, torch.nn.Linear) else values


class Loading:
    """Loads toys around one kind of network, and counts."""

    def __init__(self, kind: type[Plain]) -> None:
        self.kind, self.count = kind, 0

    def __call__(self) -> tuple[torch.nn.Module, Toy]:
        """Load one more, with the same weights."""
        self.count += 1
        torch.manual_seed(1)
        network = self.kind()
        return network, Toy(network)


def ask(toy: Toy) -> Any:
    """Return the vectors of two texts."""
    return toy.compute(["one", "longer"], frozenset(("dense",)), alone=True).dense


def test_a_model_is_loaded_once_and_packed() -> None:
    """Its vectors stay."""
    load = Loading(Plain)
    toy = hastened(load, FLOAT32)
    assert (load.count, type(toy.network.layer)) == (1, Packed)
    np.testing.assert_allclose(ask(toy), ask(load()[1]), atol=1e-6)


@pytest.mark.parametrize("kind", [Reading, Changed])
def test_a_model_that_would_be_another_is_left_as_it_is(
    kind: type[Plain], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its vectors are its own, and the log says why it is no faster."""
    load = Loading(kind)
    toy = hastened(load, FLOAT32)
    assert type(toy.network.layer) is torch.nn.Linear
    np.testing.assert_array_equal(ask(toy), ask(Loading(kind)()[1]))
    assert "keeps its own linear layers" in capsys.readouterr().err
    with pytest.raises(ValueError, match="precision: this model cannot compute in bfloat16"):
        hastened(Loading(kind), BFLOAT16)


def test_a_processor_without_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets another precision than the one that was asked for."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match="precision: this CPU cannot compute in bfloat16"):
        hastened(Loading(Plain), BFLOAT16)
    toy = hastened(Loading(Plain), FLOAT32)
    assert type(toy.network.layer) is torch.nn.Linear


def test_bfloat16_is_close_and_not_the_same() -> None:
    """It is what was asked for."""
    exact, rounded = (ask(hastened(Loading(Plain), settings)) for settings in (FLOAT32, BFLOAT16))
    off = np.abs(exact - rounded).max()
    assert 1e-6 < off < 0.05


BATCHES_OF_EVERY_SIZE = """
import resource, torch
from inglenook.workers.embedding.backends.linear import Packed
torch.set_num_threads(1)
layer = Packed(torch.nn.Linear(512, 2048), torch.float32)
with torch.inference_mode():
    layer(torch.ones(400, 512))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for rows in range(100, 400):
        layer(torch.ones(rows, 512))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of memory is that of Linux")
def test_memory_stays_flat_over_batches_of_every_size() -> None:
    """Without what the worker tells torch, each size would keep its megabytes: here, half a gigabyte."""
    done = subprocess.run(
        [sys.executable, "-c", BATCHES_OF_EVERY_SIZE],
        env=os.environ | FOR_TORCH,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert int(done.stdout) < 300 << 10


def test_the_worker_tells_torch_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the operator has said otherwise."""
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "5"})
    load_worker(read_settings(("--socket", "s", "--backend", "deterministic")))
    assert os.environ == FOR_TORCH | {"LRU_CACHE_CAPACITY": "5"}
