"""Follow one request through the engine, without knowing Gradio: request in, snapshots out.

A snapshot is everything the page shows: the progress and the takes finished so far. Closing the
generator stops the engine within a step; the chunks that are finished by then are kept in ``rest``.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lily.audio.read import probe
from lily.checkpoints.events import Notice
from lily.errors import InputError, Stopped
from lily.evaluation.comparison import Comparison, examine
from lily.evaluation.reference import Reference, align
from lily.inference.events import (
    Compared,
    ComparisonResult,
    Event,
    Finished,
    Planned,
    UpsampleResult,
)
from lily.inference.options import check_duration
from lily.ui.cache import Cache
from lily.ui.estimate import Estimate, Pace
from lily.ui.growing import Growing
from lily.ui.progress import Progress, clock_time
from lily.ui.report import command
from lily.ui.request import Request
from lily.ui.settings import Settings
from lily.ui.shelf import Engine, EngineShelf
from lily.ui.view import Heard, listenable
from lily.ui.workload import Workload, workload

log = logging.getLogger(__name__)

SHOW_EVERY = 0.1  # seconds: ten pictures a second look alive and cost the browser little
ASK_EVERY = 0.5  # seconds between looks at whether the engine is free
TAKE_LABELS = ("encoder off", "encoder on")


@dataclass(frozen=True)
class Take:
    """One finished file."""

    label: str
    result: UpsampleResult


@dataclass(frozen=True)
class Snapshot:
    """What there is to show at one moment."""

    progress: dict[str, Any]
    request: Request
    takes: tuple[Take, ...] = ()
    comparison: Comparison | None = None
    heard: Heard | None = None  # for the page
    command: str = ""
    growing: dict[str, Any] | None = None  # what the player shows of an unfinished result


class Run:
    """One request, within the limits of ``settings``; its files go to a folder of its own."""

    def __init__(
        self,
        request: Request,
        shelf: EngineShelf,
        cache: Cache,
        settings: Settings,
        *,
        listened: bool = True,
        pace: Pace | None = None,
        job: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._options = replace(request.options(), longest_seconds=settings.max_seconds)
        self._shelf = shelf
        self._cache = cache
        self._settings = settings
        self._listened = listened  # on the page, not by a program
        self._clock = clock
        self._reference: Reference | None = None
        self._notices: list[str] = []  # about the model
        self._preset = request.preset  # the spare one where the Hub was silent
        self.made: ComparisonResult | UpsampleResult | None = None  # whole, or stopped early
        self._stop = threading.Event()  # asks the engine to finish within a step
        self.ended = threading.Event()  # the engine is free again
        labels = TAKE_LABELS if request.compares else TAKE_LABELS[self._options.encoder :][:1]
        self.progress = Progress(labels, clock, request.recording.name, job)
        self._pace = pace or Pace()
        self._job = job
        self._growing: Growing | None = None
        self._estimate: Estimate | None = None

    def snapshots(self) -> Iterator[Snapshot]:
        """Wait for the engine, then run; raises LilyError. To be iterated over once.

        Closing returns at once, since a server's event loop may wait for it: a thread sees to it
        that the engine stops, which takes a step or, of a download, a file; then ``ended`` is set.
        """
        steps = self._steps()
        try:
            for snapshot in steps:  # noqa: UP028 - ``yield from`` would close them here
                yield snapshot
        except GeneratorExit:
            threading.Thread(target=_close, args=(steps,), name="end", daemon=True).start()
            raise

    def _steps(self) -> Iterator[Snapshot]:
        try:
            while not self._shelf.acquire(ASK_EVERY):
                self.progress.say("waiting", "Waiting for a free place")
                yield self._snapshot()
            try:
                yield from self._with_engine()
            finally:
                self._shelf.release()
        finally:
            self.ended.set()

    def _with_engine(self) -> Iterator[Snapshot]:
        folder: Path | None = None
        held = contextlib.ExitStack()
        try:
            held.enter_context(self._cache.holding(self._given()))
            self._admit()
            folder = self._cache.new_folder()
            chunks = self._cache.chunk_folder(self._request.chunks or self._request.key())
            held.enter_context(self._cache.holding([folder, chunks]))
            self._options = replace(self._options, chunk_folder=chunks, keep_chunks=self._listened)
            if self._request.reference:
                self.progress.say("measuring", "Aligning the reference")
                yield self._snapshot()
                self._reference = align(self._request.reference, self._request.recording)
            self._expect()
            engine = yield from self._load()
            self._use(self._shelf.loaded)
            yield from self._fill(engine, folder)
            if self._complete and self._job and not self._request.takes:
                # For other takes; the same request again is a new run, with a seed of its own.
                with contextlib.suppress(OSError):
                    chunks.rename(self._cache.chunk_folder(self._job))
            self.progress.say("drawing", "Preparing the player")
            yield self._snapshot()
            yield self.rest()
        finally:
            if folder and not self.made:
                shutil.rmtree(folder, ignore_errors=True)
            held.close()

    @property
    def _complete(self) -> bool:
        """Whether everything was generated."""
        made = self.made.on if isinstance(self.made, ComparisonResult) else self.made
        return made is not None and made.complete

    def _given(self) -> list[Path]:
        """The files that came with the request."""
        asked = self._request
        return [p for p in (asked.recording, asked.reference, *asked.context_files) if p]

    def _admit(self) -> None:
        """Refuse what says itself that it is too long, before it is decoded.

        What does not say, or says less, is refused by the engine once it has decoded as much.
        """
        asked = self._request
        for path in (asked.recording, *((asked.reference,) if asked.reference else ())):
            check_duration(path.name, probe(path).seconds or 0.0, self._settings.max_seconds)

    def _load(self) -> Generator[Snapshot, None, Engine]:
        """The request's engine, downloaded and loaded if need be."""
        preset = self._request.preset
        if not self._shelf.ready(preset):
            self.progress.say("loading", f"Loading the model {preset}")
            yield self._snapshot()
        with contextlib.closing(self._shelf.load(preset)) as loading:
            while True:
                try:
                    event = next(loading)
                except StopIteration as end:
                    return end.value
                self._shelf.check_open()
                if event is not None:
                    self.progress.load(event)
                if isinstance(event, Notice):
                    self._notices.append(event.text)
                yield self._snapshot()

    def _expect(self) -> None:
        """Tell the time left from now on, if the file says how long it is."""
        if load := self._workload(self._preset):
            self._estimate = Estimate(self._pace, load, self._clock)
            self.progress.expect(self._estimate)
            self._shelf.estimate = self._estimate

    def _use(self, preset: str) -> None:
        """Expect what the spare model takes, if the one that was asked for could not be had."""
        if not preset or preset == self._preset:
            return
        self._preset = preset
        if self._estimate and (load := self._workload(self._preset)):
            self._estimate.load = load  # whose model is loaded: what that took is no measure

    def _workload(self, preset: str) -> Workload | None:
        bounds, encoder = self._shelf.bounds(preset), self._options.encoder
        return workload(self._request, preset, bounds, encoder, not self._shelf.ready(preset))

    def rest(self) -> Snapshot:
        """Measure what was made, whole or stopped early; the last snapshot."""
        made = self.made
        if isinstance(made, ComparisonResult):
            comparison = examine(made, self._reference, draw=False)
            heard = self._heard(made.on, comparison)
            takes = tuple(
                Take(label, result)
                for label, result in zip(TAKE_LABELS, (made.off, made.on), strict=True)
            )
            self.progress.tell(Compared(made))
            return self._snapshot(takes, comparison, heard)
        elif made is not None:
            label = TAKE_LABELS[made.encoder] if made.chunks else "unchanged"
            heard = self._heard(made)
            self.progress.tell(Finished(made))
            return self._snapshot((Take(label, made),), heard=heard)
        else:
            return self._snapshot()

    def _heard(self, result: UpsampleResult, comparison: Comparison | None = None) -> Heard | None:
        if not self._listened:
            return None
        before = self._growing.before if self._growing else None
        return listenable(self._request, result, comparison, before)

    def _fill(self, engine: Engine, folder: Path) -> Iterator[Snapshot]:
        self.progress.say("measuring", "Measuring the recording")
        yield self._snapshot()
        if self._request.compares:
            events = engine.compare(
                self._request.recording, folder, self._options, stems=True, stop=self._stop
            )
        else:
            events = engine.stream(self._request.recording, folder, self._options, stop=self._stop)
        if self._listened and not self._request.takes:  # a take is heard beside the others
            self._growing = Growing(self._request, folder, self._job, self._clock)
        began = shown = self._clock()
        try:
            for event in events:
                self._shelf.check_open()
                if self._growing:
                    yield from self._grow(event)
                self._take_in(event)
                if self._clock() - began > self._settings.max_run_seconds and not self.made:
                    self._end_at_limit(events)
                    return
                if self._clock() - shown >= SHOW_EVERY or isinstance(event, Planned):
                    yield self._snapshot()
                    shown = self._clock()
        except GeneratorExit:
            with contextlib.suppress(Stopped):  # nothing was finished: nothing is kept
                self._finish_early(events)
            raise
        finally:
            events.close()  # type: ignore[attr-defined]  # after an error of the page's own

    def _grow(self, event: Event) -> Iterator[Snapshot]:
        """Take an event into the picture of the unfinished result."""
        if isinstance(event, Planned):
            self.progress.say("preparing", "Drawing the recording")
            yield self._snapshot()
        self._growing.take(event)

    def _finish_early(self, events: Iterator[Event]) -> None:
        """Have the engine stop within a step and take its result; raises Stopped if it has none."""
        self._stop.set()
        for event in events:
            self._take_in(event)

    def _end_at_limit(self, events: Iterator[Event]) -> None:
        """Stop a run at the page's time limit; raises InputError if nothing is finished by then."""
        limit = clock_time(self._settings.max_run_seconds)
        self._notices.append(f"Runs are limited to {limit} here.")
        try:
            self._finish_early(events)
        except Stopped as error:
            raise InputError(
                f"Nothing was finished in {limit}, the longest that a run may take here; give a "
                "shorter recording or fewer steps, or use the command line."
            ) from error

    def _take_in(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.made = self._noted(event.result)
        elif isinstance(event, Compared):
            off, on = self._noted(event.result.off), self._noted(event.result.on)
            self.made = replace(event.result, off=off, on=on)
        else:
            self.progress.tell(event)

    def _noted(self, result: UpsampleResult) -> UpsampleResult:
        """The result with the notices of this run in its message."""
        sentences = [*self._notices, result.message]
        if not result.complete:
            sentences.append("Run it again to continue from there.")
        return replace(result, message=" ".join(sentences).strip())

    def _snapshot(
        self,
        takes: tuple[Take, ...] = (),
        comparison: Comparison | None = None,
        heard: Heard | None = None,
    ) -> Snapshot:
        asked = replace(self._request, preset=self._preset)
        line = command(asked, takes[-1].result) if takes else ""
        growing = self._growing.value if self._growing else None
        return Snapshot(self.progress.value(), asked, takes, comparison, heard, line, growing)


def _close(steps: Iterator[Snapshot]) -> None:
    """End an abandoned run."""
    try:
        steps.close()  # type: ignore[attr-defined]
    except Exception:
        log.exception("A run could not be ended properly")
