"""What comes with a model is not executed: pickles never, code only when it is trusted.

Needs the extra `local`.
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch

from inglenook.workers.embedding.backends import bge_m3, cross_encoder, sentence_transformers
from inglenook.workers.embedding.backends.base import Backend, ModelSettings
from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import embed
from tests.workers.embedding.tiny import WIDTH, add_modules, make_bert, make_bge_m3, make_cross_encoder

Load: TypeAlias = Callable[[ModelSettings], Backend]
CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel
Path({mark!r}).touch()

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig
"""


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that a bomb leaves."""
    return tmp_path / "mark"


def arm(folder: Path, mark: Path) -> Path:
    """Put a pickle that executes something in the place of the weights."""
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Bomb(mark)}, folder / "pytorch_model.bin")
    return folder


def assert_refused(mark: Path, load: Load, model: Path) -> None:
    """The model is not loaded, and nothing was executed."""
    with pytest.raises((ValueError, RuntimeError, pickle.UnpicklingError)):
        load(ModelSettings(model=str(model)))
    assert not mark.exists()


def test_the_bomb_works(mark: Path, tmp_path: Path) -> None:
    """Otherwise these tests would show nothing."""
    torch.save(Bomb(mark), tmp_path / "bomb")
    torch.load(tmp_path / "bomb", weights_only=False)
    assert mark.exists()


def test_pickled_weights_execute_nothing(tmp_path: Path, mark: Path) -> None:
    """Not in a sentence-transformers directory, whatever its files ask for."""
    model = add_modules(arm(make_bert(tmp_path / "model"), mark), "mean")
    assert_refused(mark, sentence_transformers.load, model)
    wish = {"model_args": {"weights_only": False}, "model_kwargs": {"weights_only": False}}
    (model / "sentence_bert_config.json").write_text(json.dumps(wish))
    assert_refused(mark, sentence_transformers.load, model)


def test_old_pickles_execute_nothing(tmp_path: Path, mark: Path) -> None:
    """Nor does a pickle in the format of before torch 1.6, or one that is not torch's at all."""
    model = add_modules(arm(make_bert(tmp_path / "model"), mark), "mean")
    torch.save({"a": Bomb(mark)}, model / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_refused(mark, sentence_transformers.load, model)
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb(mark)}, protocol=2))
    assert_refused(mark, sentence_transformers.load, model)


def test_pickles_of_other_modules_execute_nothing(tmp_path: Path, mark: Path) -> None:
    """A dense layer brings weights of its own."""
    model = add_modules(make_bert(tmp_path / "model"), "mean")
    modules = json.loads((model / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "2_Dense").mkdir()
    config = {"in_features": WIDTH, "out_features": WIDTH, "bias": True}
    (model / "2_Dense" / "config.json").write_text(json.dumps(config))
    torch.save({"linear.weight": Bomb(mark)}, model / "2_Dense" / "pytorch_model.bin")
    assert_refused(mark, sentence_transformers.load, model)


def test_pickled_rerankers_execute_nothing(tmp_path: Path, mark: Path) -> None:
    """The same for a cross-encoder."""
    assert_refused(mark, cross_encoder.load, arm(make_cross_encoder(tmp_path / "model"), mark))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "sparse_linear.pt", "colbert_linear.pt"])
def test_no_part_of_bge_m3_executes_anything(tmp_path: Path, mark: Path, name: str) -> None:
    """Neither the encoder nor a head."""
    model = make_bge_m3(tmp_path / "model", pickled=True)
    torch.save({"weight": Bomb(mark)}, model / name)
    assert_refused(mark, bge_m3.load, model)


def test_code_of_a_model_runs_only_when_trusted(tmp_path: Path, mark: Path) -> None:
    """Without the flag the model is refused; with it, it runs."""
    model = add_modules(make_bert(tmp_path / "model"), "mean")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text(CODE.format(mark=str(mark)))
    assert_refused(mark, sentence_transformers.load, model)
    backend = sentence_transformers.load(ModelSettings(model=str(model), trust_remote_code=True))
    assert mark.exists()
    assert embed(backend, ["river"]).shape == (1, WIDTH)


def test_the_worker_refuses_too(launch: Start, tmp_path: Path, mark: Path) -> None:
    """The whole program ends with 1 and says what it was."""
    model = add_modules(arm(make_bert(tmp_path / "model"), mark), "mean")
    worker = launch("--backend", "sentence_transformers", "--model", str(model))
    assert worker.wait_for_exit() == 1
    assert "cannot be loaded" in worker.log.read_text()
    assert not mark.exists()
