"""What loading a model reports: downloads, conversions and notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Downloading:
    """A model's file is on its way from the Hub: ``done`` of ``total`` bytes."""

    file: str
    done: int
    total: int | None  # None where the server does not tell


@dataclass(frozen=True)
class Preparing:
    """A downloaded model is being made ready, in words: checked, converted."""

    text: str


@dataclass(frozen=True)
class Notice:
    """What the user of a model should know about it, in a sentence."""

    text: str


LoadEvent = Downloading | Preparing | Notice
Tell = Callable[[LoadEvent], None]


def silent(_event: LoadEvent) -> None:
    """Tell nobody."""
