"""Run a recording through the engine's passes once for all takes, and decide what is written.

A take is one way to fill a recording in; a comparison also writes what tells its two apart. All
takes are spliced onto the same recording, block by block and in step, so their difference and the
band they share cost no second pass. Signals are (C, n) float32 at the engine's rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from torch import Tensor

from lily.dsp.audio import AudioWriter
from lily.dsp.splice import Splicer
from lily.errors import InputError
from lily.events import Event, UpsampleOptions, UpsampleResult
from lily.fill import Waiting
from lily.hearing import Heard
from lily.measure import Measurement, make_folder
from lily.model.global_encoder import GlobalContext

if TYPE_CHECKING:
    from lily.engine import InferenceEngine

SILENT_PEAK = 10 ** (-100 / 20)  # below -100 dBFS there is nothing to fill in
Spans = tuple[tuple[float, float], ...]  # (start, stop) of chunks in seconds


@dataclass(frozen=True)
class TakePaths:
    """Where the files of a run go; ``None`` is not written."""

    takes: tuple[Path, ...]
    difference: Path | None = None  # second take minus first
    recording: Path | None = None  # the input at the engine's rate
    low: Path | None = None  # what every take keeps of the input: all but the generated band

    def refuse_existing(self) -> None:
        """Raise InputError if a file is there already."""
        for path in (*self.takes, self.difference, self.recording, self.low):
            if path is not None and path.exists():
                raise InputError(
                    f"{path} exists already and is not overwritten; give another output folder."
                )


class Takes:
    """The open files of a run; they get their names together, or none does."""

    def __init__(
        self, paths: TakePaths, sample_rate: int, means: Tensor, splicer: Callable[[], Splicer]
    ) -> None:
        """``means`` (C, 1) is the recording's DC, kept from the filters, which would ring."""
        self._means = means
        self._files = ExitStack()

        def opened(path: Path) -> AudioWriter:
            return self._files.enter_context(AudioWriter(path, sample_rate, means.shape[0]))

        with self._files:  # if one cannot be opened, those before it are removed
            self.writers = [opened(path) for path in paths.takes]
            self._difference = opened(paths.difference) if paths.difference else None
            self._recording = opened(paths.recording) if paths.recording else None
            self._low = opened(paths.low) if paths.low else None
            self._files = self._files.pop_all()
        self._splicers = [splicer() for _ in paths.takes]
        self._low_splicer = splicer()

    def __enter__(self) -> Takes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def copy(self, recording: Tensor) -> None:
        """Write a block (C, n) of the recording as it is."""
        for writer in self.writers:
            writer.write(recording)

    def write(self, recording: Tensor, generated: Tensor) -> None:
        """Splice blocks: the recording (C, n), and what was generated (K, C, n), without the DC."""
        recording = recording - self._means
        pairs = zip(self._splicers, generated, strict=True)
        self._append([splicer.push(recording, made) for splicer, made in pairs])
        if self._recording:
            self._recording.write(recording + self._means)
        if self._low:
            self._low.write(self._low_splicer.push(recording, 0 * recording) + self._means)

    def flush(self) -> None:
        """Write what the filters still hold."""
        self._append([splicer.flush() for splicer in self._splicers])
        if self._low:
            self._low.write(self._low_splicer.flush() + self._means)

    def _append(self, blocks: list[Tensor]) -> None:
        for writer, block in zip(self.writers, blocks, strict=True):
            writer.write(block + self._means)
        if self._difference:
            self._difference.write(blocks[1] - blocks[0])


def run(
    engine: InferenceEngine,
    path: Path,
    chosen: UpsampleOptions,
    encoders: tuple[bool, ...],
    paths: TakePaths,
    context: GlobalContext | None = None,
) -> Generator[Event | Waiting, None, tuple[list[UpsampleResult], Spans]]:
    """Measure, read, fill and write, once for all takes; returns their results and the chunks.

    ``encoders`` says of each take whether its chunks know the context, which is the recording's
    own unless one is given. Raises InputError.
    """
    began = time.perf_counter()
    paths.refuse_existing()
    measured = engine.measure(path, chosen)
    yield measured.told()
    message = nothing_to_do(measured)
    if message and len(encoders) > 1:
        raise InputError(f"There is nothing to compare. {message}")
    make_folder(paths.takes[0].parent)  # not before: what cannot be read leaves no folder behind
    done, chunks = 0, ()
    with Takes(paths, engine.sample_rate, measured.means, measured.splicer) as takes:
        if message:
            for block in engine.blocks(path):
                takes.copy(block)
        else:
            with Heard(paths.takes[0].parent) as heard:
                if any(encoders) and context is None:
                    context = yield from engine.read_context(path, measured, heard)
                contexts = [context if encoder else None for encoder in encoders]
                done, chunks = yield from engine.fill(
                    path, measured, contexts, chosen, takes, heard
                )
            message = remark(engine, chosen, done, len(chunks))
    told = (measured, engine.name, time.perf_counter() - began, message)
    results = [
        result_of(writer, replace(chosen, encoder=encoder), done, done == len(chunks), *told)
        for encoder, writer in zip(encoders, takes.writers, strict=True)
    ]
    return results, chunks


def result_of(
    writer: AudioWriter,
    chosen: UpsampleOptions,
    chunks: int,
    complete: bool,
    measured: Measurement,
    model: str,
    compute_seconds: float,
    message: str,
) -> UpsampleResult:
    """What there is to tell of one written take."""
    return UpsampleResult(
        output=writer.path,
        sample_rate=writer.sample_rate,
        channels=writer.channels,
        samples=writer.frames,
        cutoff_hz=measured.cutoff_hz,
        chunks=chunks,
        seed=chosen.seed or 0,
        steps=chosen.steps or 0,
        sampler=chosen.sampler or "",
        guidance=chosen.guidance or 1.0,
        encoder=chosen.encoder,
        model=model,
        seconds=measured.seconds,
        compute_seconds=compute_seconds,
        input_sample_rate=measured.info.sample_rate,
        subtype=writer.subtype,
        message=message,
        complete=complete,
        figures={"peak": writer.peak},
        profile=chosen.profile,
    )


def nothing_to_do(measured: Measurement) -> str:
    """Why the recording is left as it is, or an empty string."""
    if measured.peak < SILENT_PEAK:
        return "The recording is silent: it is returned as it was, at 48 kHz."
    if measured.full_band:
        return (
            f"The band is already full (it ends at {measured.cutoff_hz / 1000:.1f} kHz): the "
            "recording is returned as it was, at 48 kHz. Give a cutoff to replace its top."
        )
    return ""


def remark(engine: InferenceEngine, chosen: UpsampleOptions, done: int, chunks: int) -> str:
    """What the listener should know of a run that was filled in, or an empty string."""
    if done < chunks:
        return f"Stopped early: {done} of {chunks} chunks are here."
    if engine.sampler.reduced:
        return engine.sampler.reduced
    if chosen.encoder and not engine.model.encoder_is_trained:
        return "This model's global encoder is untrained: on and off give the same samples."
    return ""
