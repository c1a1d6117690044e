"""For Python programs that talk to a server: ``generate()``, and the calls that OpenAI's client has not.

Knows nothing of the server in this package but what crosses the network. ``docs/client.md`` has examples.
"""

from inglenook.client.answers import Embedding, Embeddings, Health, LoadedModel, Ranked, Ranking, Truncated
from inglenook.client.client import AsyncClient, Client
from inglenook.client.failure import CallFailed
from inglenook.client.generation import generate, generate_sync

__all__ = [
    "AsyncClient",
    "CallFailed",
    "Client",
    "Embedding",
    "Embeddings",
    "Health",
    "LoadedModel",
    "Ranked",
    "Ranking",
    "Truncated",
    "generate",
    "generate_sync",
]
