"""Keep one model in memory, by preset name, and lend it to one run at a time.

Cancelling a run in the page ends it at its next event, a moment after the queue has already let
the next visitor in; so the lock here, not the queue, is what keeps two runs off one engine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lily.checkpoints.events import LoadEvent, Notice, Notify
from lily.config.inference import InferenceConfig
from lily.config.presets import Config
from lily.config.sections import build
from lily.errors import ConfigError, HubUnreachable, InputError, LilyError, Stopped
from lily.inference.events import Event
from lily.inference.options import UpsampleOptions
from lily.ui.background import follow
from lily.ui.estimate import Estimate

STOPPING = "The server is being stopped; run it again when it is back."
NO_MEMORY = "This model takes no other recording."
log = logging.getLogger(__name__)


class Engine(Protocol):
    """What the page needs of ``lily.inference.engine.InferenceEngine``."""

    def stream(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions,
        *,
        stop: threading.Event,
    ) -> Iterator[Event]:
        """Restore one recording; yields events."""
        ...

    def compare(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions,
        stems: bool,
        *,
        stop: threading.Event,
    ) -> Iterator[Event]:
        """Restore one recording with the encoder off and on; yields events."""
        ...


def _as_it_is(config: Config, _tell: Notify) -> Config:
    return config


def _unknown(_config: Config) -> str:
    return ""


class EngineShelf:
    """At most one engine in memory; asking for another preset drops the one that is there."""

    def __init__(
        self,
        configs: Mapping[str, Config],
        make: Callable[[Config], Engine],
        *,
        ready: Callable[[Config, Notify], Config] = _as_it_is,
        note: Callable[[Config], str] = _unknown,
        spare: str | None = None,
    ) -> None:
        """Offer ``configs``, a preset's name to its configuration; the first is the default.

        ``ready`` brings a preset's weights here and checks them, ``note`` says why its encoder has
        no effect, ``spare`` is used where the Hub does not answer. Raises ConfigError if there is
        no preset.
        """
        if not configs:
            raise ConfigError("No preset has its weights here, so there is nothing to run.")
        self._configs = dict(configs)
        self._make = make
        self._make_ready = ready
        self._note = note
        self._spare = spare
        self._lock = threading.Lock()  # not an RLock: a generator may be closed by another thread
        self._closing = threading.Event()
        self.estimate: Estimate | None = None  # of the run under way
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
        """Wait up to ``seconds`` for the engine to be free; true if it is now the caller's.

        Raises Stopped after ``close``.
        """
        self.check_open()
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Give the engine back after ``acquire``."""
        self.estimate = None
        self._lock.release()

    def seconds_left(self) -> float | None:
        """What is left of the run under way; None if there is none or it is not known."""
        left = estimate.time_left() if (estimate := self.estimate) else None
        return left.left if left else None

    def check_open(self) -> None:
        """Raise Stopped after ``close``; a run asks between its steps."""
        if self._closing.is_set():
            raise Stopped(STOPPING)

    def close(self, seconds: float) -> bool:
        """End the run under way within its step, and start no other one; at a server's end.

        False if the run has not ended within ``seconds``.
        """
        self._closing.set()
        return self._lock.acquire(timeout=seconds)  # for good

    def ready(self, preset: str) -> bool:
        """True if ``load(preset)`` will not have to load anything."""
        return self._engine is not None and self._name == preset

    @property
    def loaded(self) -> str:
        """The preset whose engine is in memory; empty if there is none."""
        return self._name

    def encoder_note(self, preset: str) -> str:
        """Why the preset's encoder has no effect, in a sentence; empty if it has, or who knows."""
        try:
            return self._note(self._config(preset))
        except LilyError as error:  # the run that needs the weights will say it
            log.warning("%s", error)
            return ""

    def context_note(self, preset: str) -> str:
        """Why the preset takes no recording of the same source; empty if it does."""
        if note := self.encoder_note(preset):
            return note
        params = self._config(preset).get("model", {}).get("params", {})
        encoder = params.get("unet_config", {}).get("params", {}).get("global_encoder") or {}
        remembers = encoder.get("profile") and self.bounds(preset).pair_memory
        return "" if remembers else NO_MEMORY

    def load(self, preset: str) -> Generator[LoadEvent | None, None, Engine]:
        """Load the preset's engine, telling of it; only after ``acquire``.

        The engine that is there is dropped when the new weights are here and fit, not before, so
        that a wrong model costs nothing. Raises LilyError.
        """
        config = self._config(preset)
        if self._engine is not None and self._name == preset:
            return self._engine
        try:
            here = yield from follow(lambda tell: self._make_ready(config, tell))
        except HubUnreachable as error:
            if self._spare is None or self._spare == preset:
                raise
            yield Notice(f"{error} {self._spare}, the bundled model, was used instead.")
            return (yield from self.load(self._spare))
        self._engine, self._name = None, ""  # two models are never in memory together
        self._engine = self._make(here)
        self._configs[preset], self._name = here, preset
        return self._engine

    def _config(self, preset: str) -> Config:
        if preset not in self._configs:
            raise InputError(f"No preset {preset!r}; choose one of {', '.join(self._configs)}.")
        return self._configs[preset]
