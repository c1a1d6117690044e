"""Every dialect there is."""

from __future__ import annotations

from inglenook.config.dialects import aegis, awa, inference, llmservice, proxy
from inglenook.config.dialects.base import Dialect

DIALECTS: tuple[Dialect, ...] = (
    aegis.DIALECT,
    awa.DIALECT,
    inference.DIALECT,
    llmservice.DIALECT,
    proxy.DIALECT,
)
