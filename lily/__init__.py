"""Lily fills in the missing top of a recording: any audio in, 48 kHz out.

Axes, everywhere: B batch, C channels, T samples or log-mel frames of a whole recording, L frames,
M mel bins, N tokens. Importing this module loads nothing; the names below load what they need.
"""

from __future__ import annotations

import importlib
from typing import Any

from lily.version import VERSION as __version__

__all__ = ["InferenceEngine", "LatentDiffusion", "UpsampleResult", "__version__", "load_config"]

_HOMES = {
    "InferenceEngine": "lily.inference.engine",
    "LatentDiffusion": "lily.model.latent_diffusion",
    "UpsampleResult": "lily.inference.events",
    "load_config": "lily.config.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lily' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
