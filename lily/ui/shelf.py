"""Keep one model in memory, by preset name, and lend it to one run at a time.

Cancelling a run in the page ends it at its next event, a moment after the queue has already let
the next visitor in; so the lock here, not the queue, is what keeps two runs off one engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lily.config import Config, InferenceConfig, build
from lily.errors import ConfigError, InputError
from lily.events import Event, UpsampleOptions


class Engine(Protocol):
    """What the page needs of ``lily.engine.InferenceEngine``."""

    def stream(
        self, audio_path: str | Path, output_dir: str | Path, options: UpsampleOptions
    ) -> Iterator[Event]:
        """Fill one recording in and tell of it."""
        ...

    def compare(
        self, audio_path: str | Path, output_dir: str | Path, options: UpsampleOptions, stems: bool
    ) -> Iterator[Event]:
        """Fill one recording in twice, encoder off and on, and tell of it."""
        ...


class EngineShelf:
    """At most one engine in memory; asking for another preset drops the one that is there."""

    def __init__(self, configs: Mapping[str, Config], make: Callable[[Config], Engine]) -> None:
        """Offer ``configs``, a preset's name to its configuration; the first is the default.

        Raises ConfigError if there is none.
        """
        if not configs:
            raise ConfigError("No preset has its weights here, so there is nothing to run.")
        self._configs = dict(configs)
        self._make = make
        self._lock = threading.Lock()  # not an RLock: a generator may be closed by another thread
        self._name = ""
        self._engine: Engine | None = None

    @property
    def presets(self) -> list[str]:
        """The names on offer."""
        return list(self._configs)

    def bounds(self, preset: str) -> InferenceConfig:
        """The preset's defaults, minima and maxima; raises InputError and ConfigError."""
        return build(InferenceConfig, self._config(preset)["inference"], f"{preset}: inference")

    def acquire(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the engine to be free; true if it is now the caller's."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Give the engine back after ``acquire``."""
        self._lock.release()

    def ready(self, preset: str) -> bool:
        """True if ``engine(preset)`` will not have to load anything."""
        return self._engine is not None and self._name == preset

    def engine(self, preset: str) -> Engine:
        """The preset's engine, loaded if need be; raises LilyError. Only after ``acquire``."""
        config = self._config(preset)
        if not self.ready(preset):
            self._engine = None  # first, so that two models are never in memory together
            self._engine = self._make(config)
            self._name = preset
        return self._engine  # type: ignore[return-value]

    def _config(self, preset: str) -> Config:
        if preset not in self._configs:
            raise InputError(f"No preset {preset!r}; choose one of {', '.join(self._configs)}.")
        return self._configs[preset]
