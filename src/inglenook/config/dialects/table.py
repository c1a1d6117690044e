"""Every dialect there is."""

from __future__ import annotations

from inglenook.config.dialects import aegis, inference, llmservice
from inglenook.config.dialects.base import Dialect

DIALECTS: tuple[Dialect, ...] = (aegis.DIALECT, inference.DIALECT, llmservice.DIALECT)
