"""Turn the engine's events into progress: one sentence, one bar, one time left, and the chunks.

A cell holds one number: WAITING, the sampler step it has finished, or DONE. Times are in seconds.
Everything leaves here as plain data, which ``widgets/chunk_map.js`` draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lily.checkpoints.events import Downloading, LoadEvent, Notice, Preparing
from lily.inference.events import (
    Analyzed,
    ChunksDone,
    Compared,
    ContextRead,
    Event,
    Finished,
    Planned,
    Reading,
    Sampling,
    UpsampleResult,
    Written,
)
from lily.ui.estimate import PASSES, Estimate

Clock = Callable[[], float]
LARGE_DOWNLOAD = 100_000_000  # bytes: the files beside the weights say nothing of the time left
WAITING, DONE = 0, -1  # anything above 0 is a finished sampler step


@dataclass
class _Row:
    """One run over all chunks: its cells, and how many steps each will take."""

    label: str
    cells: list[int] = field(default_factory=list)
    steps: int = 0
    found: int = 0  # chunks that an earlier run had finished: they say nothing of the pace

    @property
    def work(self) -> float:
        """Chunks' worth of sampling done so far, those of an earlier run included."""
        return sum(1.0 if c == DONE else c / self.steps for c in self.cells if self.steps)


class Progress:
    """What the panel shows: a phase, a bar over all passes, a clock, one row of chunks per run."""

    def __init__(
        self,
        labels: Sequence[str],
        clock: Clock = time.monotonic,
        recording: str = "",
        job: str = "",
    ) -> None:
        self._rows = [_Row(label) for label in labels]
        self._clock = clock
        self._recording = recording  # its file name
        self._job = job  # by which a browser may ask for the rest of the run
        self._started = clock()
        self._estimate: Estimate | None = None
        self._batch = 1  # chunks that are sampled together
        self._written = 0.0  # share of the output
        self._bar = 0.0  # never goes back
        self._times: list[tuple[float, float]] = []
        self._phase, self._text = "waiting", "Starting"
        self._fraction: float | None = None  # of a download
        self._memory: int | None = None  # bytes predicted, if enough to mention

    def expect(self, estimate: Estimate) -> None:
        """Tell the time left from now on by ``estimate``."""
        self._estimate, self._started = estimate, self._clock()

    def say(self, phase: str, text: str, share: float | None = None) -> None:
        """Name the phase in a word for the program and a sentence for the reader.

        ``share`` is how much of this pass is done, or of a download.
        """
        self._phase, self._text = phase, text
        self._fraction = share if phase == "loading" else None
        if self._estimate and phase in PASSES:
            self._estimate.enter(phase, 0.0 if phase == "loading" else share or 0.0)

    def load(self, event: LoadEvent) -> None:
        """Take in one event of a model that is being loaded."""
        match event:
            case Downloading(file=file, done=done, total=total):
                share = done / total if total else None
                self.say("loading", f"Downloading {file}: {_size(done, total)}", share)
                if self._estimate and share and total and total >= LARGE_DOWNLOAD:
                    self._estimate.enter("loading", share)
            case Preparing(text=text) | Notice(text=text):
                self.say("loading", text)

    def tell(self, event: Event) -> None:
        """Take in one event of the engine."""
        match event:
            case Reading(seconds=seconds):
                total = self._estimate.load.seconds if self._estimate else 0.0
                share = min(1.0, seconds / total) if total else 0.0
                name = f"Measuring the recording: {share:.0%}" if share else "Measuring"
                self.say("measuring", name, share)
            case Analyzed(seconds=seconds, sample_rate=rate, cutoff_hz=cutoff):
                self.say(
                    "reading",
                    f"Measured: {clock_time(seconds)} at {rate} Hz, cutoff {cutoff / 1000:.1f} kHz",
                )
            case ContextRead(done=done):
                self.say("reading", f"Listening to the whole recording: {done:.0%}", done)
            case Planned(chunks=chunks, steps=steps, memory=memory):
                self._memory = memory
                self._times = [(start, stop) for start, stop in chunks]
                for row in self._rows:  # the rows share one plan
                    row.cells, row.steps = [WAITING] * len(chunks), steps
                self._say_filling(0)
            case Sampling(chunks=chunks, step=step, variant=variant):
                row = self._rows[variant]
                self._batch = max(self._batch, len(chunks))
                for index in chunks:
                    # The channels of one chunk may take turns: its cell shows the furthest.
                    if row.cells[index] != DONE:
                        row.cells[index] = max(row.cells[index], step)
                self._say_filling(variant)
            case ChunksDone(chunks=chunks, variant=variant):
                row = self._rows[variant]
                row.found += sum(row.cells[index] == WAITING for index in chunks)
                for index in chunks:
                    row.cells[index] = DONE
                self._say_filling(variant)
            case Written(seconds=seconds) if self._estimate:
                self._written = seconds / max(self._estimate.load.seconds, 1e-9)
                self._advance_filling()
            case Finished(result=result):
                self._end(result)
            case Compared(result=result):
                self._end(result.on)

    def _end(self, result: UpsampleResult) -> None:
        if result.complete:
            for row in self._rows:
                row.cells = [DONE] * len(row.cells)
            if self._estimate and result.chunks and not result.resumed:
                self._estimate.finish()
        self.say("done" if result.complete else "stopped", result.message or "Done")

    def value(self) -> dict[str, Any]:
        """The panel as JSON: phase, text, fraction, times, rows; elapsed and remaining seconds.

        ``next`` and ``known`` are seconds: see ``estimate.TimeLeft``.
        """
        running = self._phase not in {"idle", "done", "stopped", "error"}
        elapsed = self._clock() - self._started
        left = self._estimate.time_left() if running and self._estimate else None
        remaining = left.left if left else None
        downloading = running and self._fraction is not None  # the bar is the file's
        if remaining is not None and not downloading:
            self._bar = max(self._bar, min(0.99, elapsed / max(elapsed + remaining, 1e-6)))
        known = (remaining is not None or not running) and not downloading
        return {
            "phase": self._phase,
            "recording": self._recording,
            "job": self._job,
            "text": self._text,
            "fraction": (1.0 if self._phase == "done" else self._bar) if known else self._fraction,
            "elapsed": round(elapsed, 1),
            "remaining": None if remaining is None else round(remaining, 1),
            "next": round(left.upcoming, 1) if left else 0.0,
            "known": round(left.known, 1) if left else 0.0,
            "running": running,
            "times": self._times,
            "rows": [
                {"label": row.label, "steps": row.steps, "cells": list(row.cells)}
                for row in self._rows
                if row.cells
            ],
        }

    def _say_filling(self, variant: int) -> None:
        self._advance_filling()
        row = self._rows[variant]
        total, done = len(row.cells), row.cells.count(DONE)
        busy = [(i, c) for i, c in enumerate(row.cells) if c > 0]
        if total and all(cell == DONE for r in self._rows for cell in r.cells):
            self.say("writing", "Writing the file and checking it")
            return
        label = f", {row.label}" if len(self._rows) > 1 else ""
        text = f"Generating the highs{label}: {done} of {total} chunks done"
        if busy:
            text += f"; {_span(busy)} at step {max(c for _, c in busy)} of {row.steps}"
        if self._memory is not None:
            text += f"; tensors take up to {self._memory / 2**30:.1f} GiB"
        self.say("filling", text)

    def _advance_filling(self) -> None:
        """Have the estimate know how much is sampled and written."""
        if not self._estimate:
            return
        found = sum(r.found for r in self._rows)
        # A batch takes as long when the last chunks do not fill it.
        batches = sum(-(-(len(r.cells) - r.found) // self._batch) for r in self._rows)
        sampled = (sum(r.work for r in self._rows) - found) / max(1, batches * self._batch)
        if all(cell == DONE for r in self._rows for cell in r.cells):
            sampled = 1.0
        self._estimate.enter("filling", self._estimate.load.filled(sampled, self._written))


def _span(busy: list[tuple[int, int]]) -> str:
    first, last = busy[0][0] + 1, busy[-1][0] + 1
    return f"chunk {first}" if first == last else f"chunks {first} to {last}"


def _size(done: int, total: int | None) -> str:
    unit, name = (1e9, "GB") if (total or done) >= 1e9 else (1e6, "MB")
    return f"{done / unit:.1f}" + (f" of {total / unit:.1f}" if total else "") + f" {name}"


def clock_time(seconds: float) -> str:
    """Write seconds as 1.5 s, 2:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def idle() -> dict[str, Any]:
    """The map before anything has run."""
    blank = Progress([])
    blank.say("idle", "A recording is restored as soon as it is chosen.")
    return blank.value()
