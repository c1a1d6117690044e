"""Inglenook: private language models on your own machines, behind the OpenAI API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inglenook.http.app import create_app

__version__ = "0.1.0"
__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> Any:
    # The whole server comes only to those who ask for it: every engine's process imports this file too.
    if name == "create_app":
        return import_module("inglenook.http.app").create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
