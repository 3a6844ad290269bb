"""Events of loading a model: downloads, conversions and notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Downloading:
    """A file of a model is being downloaded: ``done`` of ``total`` bytes."""

    file: str
    done: int
    total: int | None  # None where the server does not say


@dataclass(frozen=True)
class Preparing:
    """A downloaded model is being checked or converted; ``text`` says which."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence that the user of a model should read."""

    text: str


LoadEvent = Downloading | Preparing | Notice
Notify = Callable[[LoadEvent], None]


def ignore(_event: LoadEvent) -> None:
    """Drop the event."""
