"""Which surface a dialect has."""

from __future__ import annotations

from inglenook.config.settings import Settings
from inglenook.http.dialects.aegis import AegisSurface
from inglenook.http.dialects.awa import AwaSurface
from inglenook.http.dialects.base import Surface
from inglenook.http.dialects.inference import InferenceSurface
from inglenook.http.dialects.llmservice import LLMServiceSurface
from inglenook.http.dialects.proxy import ProxySurface

SURFACES: dict[str, type[Surface]] = {
    "aegis": AegisSurface,
    "awa": AwaSurface,
    "inference": InferenceSurface,
    "llmservice": LLMServiceSurface,
    "proxy": ProxySurface,
}


def surface(settings: Settings) -> Surface:
    """The surface for ``server.dialect``."""
    return SURFACES.get(settings.server.dialect, Surface)(settings)
