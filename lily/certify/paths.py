"""Where the metadata of an output is. Needs no torch."""

from __future__ import annotations

from pathlib import Path


def metadata_path(audio: Path) -> Path:
    """Where the metadata of an audio file is: ``<stem>.json`` beside it."""
    return audio.with_suffix(".json")
