"""The flags of the program."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from inglenook.workers.embedding.backends.base import ModelSettings

BACKENDS = ("deterministic", "static", "sentence_transformers", "bge_m3", "cross_encoder")
PRECISIONS = ("", "float32", "bfloat16")
POOLINGS = ("", "mean", "cls", "last", "max")


@dataclass(frozen=True)
class Settings:
    """Everything the command line says."""

    socket: str
    backend: str
    model: ModelSettings


def read_settings(argv: Sequence[str]) -> Settings:
    """Parse ``argv``. Exits with 2 when the call is wrong."""
    given = vars(_parser().parse_args(argv))
    return Settings(given.pop("socket"), given.pop("backend"), ModelSettings(**given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inglenook.workers.embedding",
        description="Embeds, or reranks, texts with one model, for the server that started it.",
    )
    add = parser.add_argument
    add("--socket", required=True, metavar="PATH", help="unix socket to listen on")
    add("--backend", required=True, choices=BACKENDS, help="the kind of model")
    add("--model", default="", metavar="PATH_OR_NAME", help="directory, file or hub id")
    add("--pooling", default="", choices=POOLINGS, help="how token vectors become one (default: the model's)")
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="make vectors of length 1, or leave their length (default: as the model says)",
    )
    add("--dimension", type=_positive, default=768, metavar="N", help="of deterministic vectors")
    add("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    add("--precision", default="", choices=PRECISIONS, help="what to multiply in (default: the files')")
    add(
        "--batch-tokens", type=_natural, default=0, metavar="N", help="padded tokens of a batch, 0: automatic"
    )
    add("--threads", type=_natural, default=0, metavar="N", help="threads to compute with, 0: automatic")
    add("--context", type=_natural, default=0, metavar="N", help="longest input in tokens, 0: the model's")
    return parser


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _positive(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value
