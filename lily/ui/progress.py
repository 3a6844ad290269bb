"""Turn the engine's events into progress: what each chunk is doing, and for how long still.

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
)

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
        """Chunks' worth of sampling done so far, found ones included."""
        return sum(1.0 if c == DONE else c / self.steps for c in self.cells if self.steps)


class Progress:
    """What the chunk map shows: one row of chunks per run, a phase and a clock."""

    def __init__(self, labels: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = [_Row(label) for label in labels]
        self._clock = clock
        self._started = clock()
        self._filling: float | None = None  # when the plan came
        self._times: list[tuple[float, float]] = []
        self._phase, self._text = "waiting", "Waiting for a free place"
        self._fraction: float | None = None
        self._memory: int | None = None  # bytes foretold, where that is worth a word

    def say(self, phase: str, text: str, fraction: float | None = None) -> None:
        """Name the phase in a word for the program and a sentence for the reader."""
        self._phase, self._text, self._fraction = phase, text, fraction

    def load(self, event: LoadEvent) -> None:
        """Take in one event of a model that is being loaded."""
        match event:
            case Downloading(file=file, done=done, total=total):
                share = done / total if total else None
                self.say("loading", f"Downloading {file}: {_size(done, total)}", share)
            case Preparing(text=text) | Notice(text=text):
                self.say("loading", text)

    def tell(self, event: Event) -> None:
        """Take in one event of the engine."""
        match event:
            case Reading(seconds=seconds):
                self.say("measuring", f"Measuring the recording, {clock_time(seconds)} so far")
            case Analyzed(seconds=seconds, sample_rate=rate, cutoff_hz=cutoff):
                self.say(
                    "reading",
                    f"Measured: {clock_time(seconds)} at {rate} Hz, cutoff {cutoff / 1000:.1f} kHz",
                )
            case ContextRead(done=done):
                self.say("reading", "Reading the whole recording", done)
            case Planned(chunks=chunks, steps=steps, memory=memory):
                self._memory = memory
                self._times = [(start, stop) for start, stop in chunks]
                for row in self._rows:  # the rows share one plan
                    row.cells, row.steps = [WAITING] * len(chunks), steps
                self._filling = self._clock()
                self._say_filling(0)
            case Sampling(chunks=chunks, step=step, variant=variant):
                row = self._rows[variant]
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
            case Finished(result=result):
                self._end(result.message, result.complete)
            case Compared(result=result):
                self._end(result.on.message, result.on.complete)

    def _end(self, message: str, complete: bool) -> None:
        if complete:
            for row in self._rows:
                row.cells = [DONE] * len(row.cells)
        self.say("done" if complete else "stopped", message or "Done", 1.0 if complete else None)

    def value(self) -> dict[str, Any]:
        """The map as JSON: phase, text, fraction, elapsed and remaining seconds, times, rows."""
        return {
            "phase": self._phase,
            "text": self._text,
            "fraction": self._fraction,
            "elapsed": round(self._clock() - self._started, 1),
            "remaining": self._remaining(),
            "running": self._phase not in {"idle", "done", "stopped", "error"},
            "times": self._times,
            "rows": [
                {"label": row.label, "steps": row.steps, "cells": list(row.cells)}
                for row in self._rows
                if row.cells
            ],
        }

    def _say_filling(self, variant: int) -> None:
        row = self._rows[variant]
        total, done = len(row.cells), row.cells.count(DONE)
        busy = [(i, c) for i, c in enumerate(row.cells) if c > 0]
        text = f"Filling in, {row.label}: {done} of {total} chunks done"
        if busy:
            text += f"; {_span(busy)} at step {max(c for _, c in busy)} of {row.steps}"
        if self._memory is not None:
            text += f"; tensors take up to {self._memory / 2**30:.1f} GiB"
        all_work = sum(r.work for r in self._rows) / max(1, sum(len(r.cells) for r in self._rows))
        self.say("filling", text, all_work)

    def _remaining(self) -> float | None:
        """Seconds of sampling left at the pace so far, once there is a pace."""
        if self._filling is None or self._phase != "filling":
            return None
        left = sum(len(row.cells) - row.work for row in self._rows)
        work = sum(row.work - row.found for row in self._rows)
        return round(left * (self._clock() - self._filling) / work, 1) if work > 0 else None


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
    blank.say("idle", "Choose a recording, then press Run or Compare; or try an example.")
    return blank.value()
