"""Follow one request through the engine, without knowing Gradio: request in, snapshots out.

A snapshot is everything the page shows: the progress and the takes finished so far. Closing the
generator stops the engine and removes what no finished take needs.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lily.errors import InputError
from lily.evaluation.spectrogram import Picture, picture_of, save_pair
from lily.events import Event, Finished, Measured, Planned, UpsampleOptions, UpsampleResult
from lily.ui.progress import Progress, clock_time
from lily.ui.report import command
from lily.ui.request import Request
from lily.ui.shelf import EngineShelf

SHOW_EVERY = 0.1  # seconds: ten pictures a second look alive and cost the browser little
ASK_EVERY = 0.5  # seconds between looks at whether the engine is free
LEFTOVER_SECONDS = 3600.0  # an empty folder this old was a run whose files have expired


@dataclass(frozen=True)
class Take:
    """One finished file and its pictures before and after, None where none were asked for."""

    label: str
    result: UpsampleResult
    pictures: tuple[Path, Path] | None


@dataclass(frozen=True)
class Snapshot:
    """What there is to show at one moment."""

    progress: dict[str, Any]
    takes: tuple[Take, ...] = ()
    command: str = ""


class Run:
    """One request; its files go to a folder of its own inside ``cache``."""

    def __init__(
        self,
        request: Request,
        shelf: EngineShelf,
        cache: Path,
        *,
        max_seconds: float,
        pictures: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._options = request.options()
        self._shelf = shelf
        self._cache = cache
        self._max_seconds = max_seconds
        self._draw = pictures
        self._clock = clock
        self._takes: list[Take] = []
        self._before: Picture | None = None
        self.progress = Progress([label(options) for options in self._options], clock)

    def snapshots(self) -> Iterator[Snapshot]:
        """Wait for the engine, then run; raises LilyError. To be iterated over once."""
        while not self._shelf.acquire(ASK_EVERY):
            yield self._snapshot()
        folder: Path | None = None
        try:
            folder = _new_folder(self._cache)
            if not self._shelf.ready(self._request.preset):
                self.progress.say("loading", f"Loading the model {self._request.preset}")
                yield self._snapshot()
            for index in range(len(self._options)):
                yield from self._fill(index, folder / str(index))
                if not self._takes[-1].result.chunks:
                    break  # the band was full: a second run would return the same recording
            self.progress.say("done", self._takes[-1].result.message or "Done", 1.0)
            yield self._snapshot()
        finally:
            self._shelf.release()
            if folder and not self._takes:
                shutil.rmtree(folder, ignore_errors=True)

    def _fill(self, index: int, folder: Path) -> Iterator[Snapshot]:
        """Run number ``index``: the second of two takes the seed of the first."""
        options = self._options[index]
        if self._takes:
            options = replace(options, seed=self._takes[0].result.seed)
        engine = self._shelf.engine(self._request.preset)
        self.progress.next_row(index)
        self.progress.say("measuring", "Measuring the recording")
        yield self._snapshot()
        events = engine.stream(self._request.recording, folder, options)
        shown = self._clock()
        try:
            for event in events:
                self._take_in(event)
                if isinstance(event, Finished):
                    yield from self._keep(event.result, options)
                elif self._clock() - shown >= SHOW_EVERY or isinstance(event, Planned):
                    yield self._snapshot()
                    shown = self._clock()
        finally:
            events.close()  # type: ignore[attr-defined]  # the engine stops and cleans up

    def _take_in(self, event: Event) -> None:
        if isinstance(event, Measured) and event.seconds > self._max_seconds:
            raise InputError(
                f"{event.name} is {clock_time(event.seconds)} long; this page takes up to "
                f"{clock_time(self._max_seconds)}. Cut it, or use the command line."
            )
        self.progress.tell(event)

    def _keep(self, result: UpsampleResult, options: UpsampleOptions) -> Iterator[Snapshot]:
        """Name the file after its run, draw it, and show it."""
        if len(self._options) > 1 and result.chunks:
            ending = ".on" if options.encoder else ".off"
            output = result.output.with_stem(result.output.stem + ending)
            result = replace(result, output=result.output.rename(output))
        name = label(options) if result.chunks else "unchanged"
        self.progress.say("drawing", f"Drawing the spectrograms, {name}")
        yield self._snapshot()
        pictures = self._pictures(result, name) if self._draw else None
        self._takes.append(Take(name, result, pictures))
        yield self._snapshot()

    def _pictures(self, result: UpsampleResult, name: str) -> tuple[Path, Path]:
        if self._before is None:
            self._before = picture_of(self._request.recording, result.seconds)
        return save_pair(
            (self._before, f"Before: {result.input_sample_rate / 1000:g} kHz input"),
            (picture_of(result.output, result.seconds), f"After: {name}"),
            result.cutoff_hz,
            result.output.parent,
        )

    def _snapshot(self) -> Snapshot:
        done = [take.result for take in self._takes]
        request = self._request
        alone = len(self._options) == 1
        line = command(request.recording, request.preset, request.cutoff_hz, done, alone)
        return Snapshot(self.progress.value(), tuple(self._takes), line)


def label(options: UpsampleOptions) -> str:
    """The name of a run on the page."""
    return "encoder on" if options.encoder else "encoder off"


def _new_folder(cache: Path) -> Path:
    """Make a run's folder in ``cache``, and tidy away the empty ones that expired files left."""
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob("lily-*"):
        for inner in (*old.glob("*"), old):
            with contextlib.suppress(OSError):  # gone already, or not empty: it stays
                if time.time() - inner.stat().st_mtime > LEFTOVER_SECONDS:
                    inner.rmdir()
    return Path(tempfile.mkdtemp(prefix="lily-", dir=cache))
