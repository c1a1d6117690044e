"""The list of models below ``/api``, with words for those that the API knows by name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class ApiModel(Struct, omit_defaults=True, frozen=True):
    """One entry of ``GET /api/llms``."""

    id: str
    name: str
    description: str
    capabilities: tuple[str, ...]
    size: str | None = None


CHATS = ("text-generation", "chat")
GENERATES = ("text-generation",)
CATALOGUE = (
    ApiModel(
        "mistralai/Mistral-7B-Instruct-v0.2",
        "Mistral 7B Instruct v0.2",
        "Mistral AI's 7B model, taught to follow instructions",
        CHATS,
        "7B",
    ),
    ApiModel(
        "mistralai/Mistral-7B-v0.1",
        "Mistral 7B v0.1",
        "Mistral AI's 7B model before it was taught to chat",
        GENERATES,
        "7B",
    ),
    ApiModel(
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "Mixtral 8x7B Instruct v0.1",
        "Mistral AI's mixture of eight experts, taught to follow instructions",
        CHATS,
        "8x7B",
    ),
    ApiModel(
        "meta-llama/Llama-2-7b-chat-hf",
        "Llama 2 7B Chat",
        "Meta's Llama 2 for conversations; its hub asks for an account",
        CHATS,
        "7B",
    ),
    ApiModel(
        "meta-llama/Llama-2-13b-chat-hf",
        "Llama 2 13B Chat",
        "Meta's larger Llama 2 for conversations; its hub asks for an account",
        CHATS,
        "13B",
    ),
    ApiModel(
        "HuggingFaceH4/zephyr-7b-beta",
        "Zephyr 7B Beta",
        "A Mistral 7B that Hugging Face taught to chat",
        CHATS,
        "7B",
    ),
    ApiModel(
        "microsoft/Phi-3-mini-4k-instruct",
        "Phi-3 Mini 4K Instruct",
        "Microsoft's small model with a context of 4096 tokens",
        CHATS,
        "3.8B",
    ),
    ApiModel(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "TinyLlama 1.1B Chat",
        "A small and quick model for conversations",
        CHATS,
        "1.1B",
    ),
)
"""Models that the API knows by name, whether they are here or not."""


def listed(names: Iterable[str], *, everything: bool = False) -> list[ApiModel]:
    """The entries of ``names``, those of the catalogue first; with ``everything`` all of these too."""
    wanted = dict.fromkeys(names)
    known = [model for model in CATALOGUE if everything or model.id in wanted]
    ids = {model.id for model in known}
    return known + [_uncatalogued(name) for name in wanted if name not in ids]


def _uncatalogued(name: str) -> ApiModel:
    short = name.rpartition("/")[2].rpartition(":")[2] or name
    return ApiModel(name, short.removesuffix(".gguf"), "A model of this server", CHATS)
