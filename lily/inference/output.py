"""Run a recording through the engine's passes once for all takes, and decide what is written.

A take is one way to fill a recording in; a comparison also writes what tells its two apart. All
takes are spliced onto the same recording, block by block and in step, so their difference and the
band they share cost no second pass. Signals are (C, n) float32 at the engine's rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from torch import Tensor

from lily.audio.read import AudioWriter
from lily.audio.temp_files import FileGroup, require_new
from lily.bandwidth.diagnosis import SILENT_PEAK
from lily.certify.metadata import metadata_path
from lily.dsp.splice import Splicer
from lily.errors import InputError
from lily.inference.analyze import measure, prepare
from lily.inference.events import Event, Reading, UpsampleOptions, UpsampleResult
from lily.inference.features import Heard
from lily.inference.generate import Filler, Waiting
from lily.inference.identity import address, machine
from lily.inference.metered_writer import MeteredWriter, RunFacts, run_facts
from lily.inference.options import Measurement, make_folder
from lily.model.global_encoder import GlobalContext

if TYPE_CHECKING:
    from lily.inference.engine import InferenceEngine

Spans = tuple[tuple[float, float], ...]  # (start, stop) of chunks in seconds


@dataclass(frozen=True)
class OutputPaths:
    """The files of a run; ``None`` is not written."""

    variants: tuple[Path, ...]
    difference: Path | None = None  # second variant minus first
    recording: Path | None = None  # the input at the engine's sample rate
    low: Path | None = None  # what all variants keep of the input: all but the generated band

    def make_way(self) -> None:
        """Remove the temporary files of killed runs; raises InputError if a file exists already."""
        metadata = [metadata_path(path) for path in self.variants]
        # Where a FLAC would clip, a float WAV is written instead.
        others = [path.with_suffix(".wav") for path in self.variants if path.suffix == ".flac"]
        files = (*self.variants, *others, *metadata, self.difference, self.recording, self.low)
        for path in files:
            if path is not None:
                require_new(path)


class OutputWriter:
    """Splice generated blocks onto the recording and write every variant of a run."""

    def __init__(
        self,
        paths: OutputPaths,
        sample_rate: int,
        frames: int,
        means: Tensor,
        splicer: Callable[[], Splicer],
        facts: Sequence[RunFacts],
    ) -> None:
        """Open the files of ``paths``; ``facts`` are each variant's metadata before measuring.

        ``means`` (C, 1) is the recording's DC. The filters see the recording without it, as they
        would ring at its ends.
        """
        self._means = means
        self._files = ExitStack()

        def opened(path: Path) -> AudioWriter:
            writer = AudioWriter(path, sample_rate, means.shape[0], frames=frames, files=group)
            return self._files.enter_context(writer)

        with self._files:  # if one cannot be opened, those before it are removed
            group = self._files.enter_context(FileGroup())
            self.writers = [
                self._files.enter_context(
                    MeteredWriter(path, sample_rate, means.shape[0], frames, group, own)
                )
                for path, own in zip(paths.variants, facts, strict=True)
            ]
            self._difference = opened(paths.difference) if paths.difference else None
            self._recording = opened(paths.recording) if paths.recording else None
            self._low = opened(paths.low) if paths.low else None
            self._files = self._files.pop_all()
        self._splicers = [splicer() for _ in paths.variants]
        self._low_splicer = splicer()

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def copy(self, recording: Iterable[Tensor]) -> Iterator[Reading]:
        """Write the recording's blocks (C, n) as they are."""
        for block in recording:
            for writer in self.writers:
                writer.measure(block)
                writer.write(block)
            yield Reading(self.writers[0].frames / self.writers[0].sample_rate)

    def plan(self, joins: Sequence[float], fade: float) -> None:
        """Say where chunks are joined and over how long, in seconds."""
        for writer in self.writers:
            writer.plan(joins, fade)

    def write(self, recording: Tensor, generated: Tensor) -> None:
        """Splice a block (C, n) of the recording and generated blocks (K, C, n), one a variant.

        The generated blocks have no DC.
        """
        for writer in self.writers:
            writer.measure(recording)
        recording = recording - self._means
        pairs = zip(self._splicers, generated, strict=True)
        self._append([splicer.push(recording, made) for splicer, made in pairs])
        if self._recording:
            self._recording.write(recording + self._means)
        if self._low:
            self._low.write(self._low_splicer.push(recording, 0 * recording) + self._means)

    def flush(self) -> None:
        """Write what the splicers still hold."""
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
    seed: int | None,
    encoders: tuple[bool, ...],
    paths: OutputPaths,
    context: GlobalContext | None = None,
) -> Generator[Event | Waiting, None, tuple[list[UpsampleResult], Spans]]:
    """Measure, read, fill and write, once for all takes; returns their results and the chunks.

    ``seed`` is the one that was asked for, None where ``chosen`` has a drawn one. ``encoders`` says
    of each take whether its chunks know the context, which is the recording's own unless one is
    given. Raises InputError.
    """
    began = time.perf_counter()
    paths.make_way()
    measured = yield from measure(path, engine.sample_rate, chosen)
    # A limit and a container change no chunk.
    asked = replace(chosen, seed=seed, resume=False, longest_seconds=None, format="wav")
    named = partial(name_of, engine, measured.sha256, asked, encoders)
    with engine.cache.run(named, chosen.resume) as kept:
        if kept:
            chosen = replace(chosen, seed=kept.seed(chosen.seed or 0))
        measured = yield from prepare(path, engine.sample_rate, measured, chosen)
        yield measured.told()
        message = nothing_to_do(measured)
        if message and len(encoders) > 1:
            raise InputError(f"There is nothing to compare. {message}")
        make_folder(paths.variants[0].parent)  # not before: what cannot be read leaves no folder
        done, chunks, resumed = 0, (), 0
        who = engine.name, engine.weights_sha256, engine.device, engine.precision
        facts = [
            run_facts(*who, measured, replace(chosen, encoder=encoder), generated=not message)
            for encoder in encoders
        ]
        shape = engine.sample_rate, measured.samples, measured.means
        with OutputWriter(paths, *shape, measured.splicer, facts) as takes:
            if message:
                yield from takes.copy(engine.blocks(path))
            else:
                with Heard(paths.variants[0].parent) as heard:
                    if any(encoders) and context is None:
                        context = yield from engine.read_context(path, measured, heard)
                    contexts = [context if encoder else None for encoder in encoders]
                    done, chunks, resumed = yield from engine.fill(
                        path, measured, contexts, chosen, takes, kept, heard
                    )
                message = remark(engine, chosen, done, len(chunks), resumed)
                if kept and chosen.resume and done < len(chunks):
                    message += " Run it again to go on from there."
        if kept:
            kept.complete = done == len(chunks)
    told = (measured, engine.name, time.perf_counter() - began, message)
    results = [
        result_of(writer, replace(chosen, encoder=encoder), done, len(chunks), resumed, *told)
        for encoder, writer in zip(encoders, takes.writers, strict=True)
    ]
    return results, chunks


def name_of(
    engine: InferenceEngine, audio: str, asked: UpsampleOptions, encoders: tuple[bool, ...]
) -> str:
    """What a run is known by: the recording's hash, what was asked of it, the model, the place."""
    here = engine.filler is Filler  # or on a lent GPU
    where = (*machine(engine.device, engine.precision), engine.sampler.batch, here)
    return address(
        engine.config, engine.weights_sha256, engine.settings, audio, asked, encoders, where
    )


def result_of(
    writer: MeteredWriter,
    chosen: UpsampleOptions,
    done: int,
    chunks: int,
    resumed: int,
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
        chunks=done,
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
        complete=done == chunks,
        figures={"peak": writer.peak},
        profile=chosen.profile,
        resumed=resumed,
        metadata=metadata_path(writer.path),
        checks=writer.checks(),
        finding=measured.finding,
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


def remark(
    engine: InferenceEngine, chosen: UpsampleOptions, done: int, chunks: int, resumed: int
) -> str:
    """What the listener should know of a run that was filled in, or an empty string."""
    if done < chunks:
        return f"Stopped early: {done} of {chunks} chunks are here."
    if resumed:
        return f"Resumed: {resumed} of {chunks} chunks were there from an earlier run."
    if engine.sampler.reduced:
        return engine.sampler.reduced
    if chosen.encoder and not engine.model.encoder_is_trained:
        return "This model's global encoder is untrained: on and off give the same samples."
    return ""
