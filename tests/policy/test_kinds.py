"""Which engine runs a model and what the model is for, where nobody said it."""

from __future__ import annotations

import pytest

from inglenook.policy.kinds import engine_by_name, engine_of_folder, task_by_name, tasks_of_gguf

BGE_M3 = ["config.json", "pytorch_model.bin", "sparse_linear.pt", "colbert_linear.pt", "modules.json"]


@pytest.mark.parametrize(
    ("names", "architectures", "engine"),
    [
        (BGE_M3, ["XLMRobertaModel"], "bge_m3"),
        (["modules.json", "config.json"], ["BertModel"], "sentence_transformers"),
        (["modules.json", "config.json"], ["BertForSequenceClassification"], "sentence_transformers"),
        (["config.json", "model.safetensors"], ["BertForSequenceClassification"], "cross_encoder"),
        (["config.json", "model.safetensors"], ["BertModel"], "sentence_transformers"),
        (["config.json", "model.safetensors"], ["BertForMaskedLM"], "sentence_transformers"),
        (["config_sentence_transformers.json", "config.json"], [], "sentence_transformers"),
        (["config.json", "model.safetensors"], ["LlamaForCausalLM"], ""),
        (["config.json", "sparse_linear.pt"], [], ""),
        ([], [], ""),
    ],
)
def test_a_directory(names: list[str], architectures: list[str], engine: str) -> None:
    """By the files that only one library writes, then by the model's architecture."""
    assert engine_of_folder(names, architectures) == engine


@pytest.mark.parametrize(
    ("name", "engine", "task"),
    [
        ("hf:BAAI/bge-m3", "bge_m3", "embed"),
        ("hf:BAAI/bge-reranker-v2-m3", "cross_encoder", "rerank"),
        ("hf:cross-encoder/ms-marco-MiniLM-L-6-v2", "cross_encoder", "rerank"),
        ("hf:BAAI/bge-small-en-v1.5", "sentence_transformers", "embed"),
        ("hf:intfloat/multilingual-e5-large", "sentence_transformers", "embed"),
        ("hf:sentence-transformers/paraphrase-albert-small-v2", "sentence_transformers", "embed"),
        ("hf:nomic-ai/nomic-embed-text-v1.5", "sentence_transformers", "embed"),
        ("hf:Qwen/Qwen3-Embedding-0.6B", "sentence_transformers", "embed"),
        ("hf:Qwen/Qwen3-0.6B", "", "chat"),
        ("hf:someone/the5th-model", "", "chat"),
    ],
)
def test_a_repository_that_is_not_here_yet(name: str, engine: str, task: str) -> None:
    """By the words of its name; whole words, as `e5` is in many."""
    assert engine_by_name(name) == engine
    assert task_by_name(name) == task


@pytest.mark.parametrize(
    ("architecture", "pooling", "task"),
    [
        ("llama", None, "chat"),
        ("llama", 0, "chat"),
        ("qwen3", 3, "embed"),
        ("qwen3", 4, "rerank"),
        ("bert", None, "embed"),
        ("bert", 0, "embed"),
        ("bert", 4, "rerank"),
        ("nomic-bert", 1, "embed"),
    ],
)
def test_a_gguf(architecture: str, pooling: int | None, task: str) -> None:
    """By how it makes one vector of many, or by being unable to write."""
    assert tasks_of_gguf(architecture, pooling) == (task,)
