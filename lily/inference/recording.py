"""One recording's run: what is read, generated and written for it.

    read     analyze (pass 1); read the context (pass 2); plan; cut chunk items (pass 3)
    add      blend the sampled chunks, vocode, splice onto the recording, write
    finish   complete the output files, report the result

Items are sampled between ``read`` and ``add``, in batches that several recordings may share
(lily/inference/engine.py). Every pass works on blocks, so memory does not grow with duration.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from lily.certify.check import format_note
from lily.certify.paths import metadata_path
from lily.diffusion.noise import NoiseField
from lily.dsp.blocks import SampleFifo
from lily.dsp.known_band import KnownBand, KnownShare
from lily.dsp.splice import Splicer
from lily.dsp.temporal_shape import TemporalShape
from lily.errors import InputError, Stopped
from lily.inference.analyze import unchanged_message
from lily.inference.batching import SampleNow
from lily.inference.borrowed import context_use
from lily.inference.events import (
    ChunksDone,
    Compared,
    ComparisonResult,
    Event,
    Finished,
    Planned,
    UpsampleResult,
    Written,
)
from lily.inference.generate import Chunker, Plan, variants_of
from lily.inference.metered_writer import MeteredWriter, run_facts
from lily.inference.options import UpsampleOptions
from lily.inference.output import OutputPaths, OutputWriter, make_folder
from lily.inference.profiles import PROFILES
from lily.inference.reading import RecordingReader
from lily.inference.resume import ChunkStore, chunk_folder, run_key
from lily.inference.runtime import Runtime
from lily.inference.sample import ChunkItem
from lily.inference.vocode import StreamingVocoder, temporal_shape
from lily.model.global_encoder import GlobalContext


class RecordingRun:
    """A run of one recording: one variant, or two to compare, with the encoder off and on."""

    chunker: Chunker  # once it is planned
    vocoder: StreamingVocoder  # of all variants and channels

    def __init__(
        self,
        runtime: Runtime,
        path: Path,
        options: UpsampleOptions,
        paths: OutputPaths,
        *,
        encoders: tuple[bool, ...],
        context: GlobalContext | None = None,
        seed_drawn: bool = False,
    ) -> None:
        """``options`` have the preset's defaults filled in; ``seed_drawn``: the seed was random.

        ``encoders``: for each variant, whether the encoder is on. Its context is the recording's
        own unless ``context`` is given.
        """
        self.runtime, self.options, self.paths = runtime, options, paths
        self.encoders, self.context = encoders, context
        self._reader = RecordingReader(runtime, path, options)
        self._seed_drawn = seed_drawn
        self._began = time.perf_counter()
        self._chunk_times: tuple[tuple[float, float], ...] = ()  # of the chunks, in seconds
        self._all_read = False
        self._reused: set[int] = set()  # chunks that an earlier run had finished
        self._takes: dict[int, int] = {}  # seeds of chunks that have one of their own
        self._recorded = SampleFifo()  # the recording, until what was generated is spliced onto it
        self._outputs: OutputWriter | None = None
        self._shape: TemporalShape | None = None
        self._store: ChunkStore | None = None

    @property
    def done(self) -> int:
        """The number of leading chunks that are finished in all variants."""
        return self.chunker.finished if self._chunk_times else 0

    @property
    def complete(self) -> bool:
        """Whether everything is read and every chunk is generated."""
        return self._all_read and self.done == len(self._chunk_times)

    def read(self) -> Iterator[Event | ChunkItem]:
        """Read the recording; yields events, then chunk items, cut while it is read.

        Raises InputError for a recording or options that cannot be used.
        """
        reader = self._reader
        self._began = time.perf_counter()
        self.paths.make_way()
        yield from reader.analyze()
        unchanged = reader.analysis.unchanged
        if unchanged and len(self.encoders) > 1:
            found, advice = reader.analysis.diagnosis.text, reader.analysis.advice
            raise InputError(f"There is nothing to compare. {found} {advice}".strip())
        make_folder(self.paths.variants[0].parent)
        if not unchanged:
            self._open_store()
            yield from reader.prepare(self.options.seed or 0)
        yield reader.analysis.event()
        self._outputs = self._open_outputs(generates=not unchanged)
        if unchanged:
            yield from self._outputs.copy(reader.blocks())
        else:
            if any(self.encoders) and self.context is None:
                yield from reader.read_context()
                self.context = reader.context
            yield self._plan()
            for frames in reader.log_mels(self._recorded.push, self.vocoder.hear):
                yield from self._cut(frames)
        self._all_read = True

    def add(self, variant: int, sampled: Sequence[tuple[ChunkItem, Tensor]]) -> Iterator[Event]:
        """Take the log-mels (T, M) that were sampled for items of a variant."""
        for item, log_mel in sampled:
            self.chunker.add(item, variant, log_mel)
        yield from self._blend(variant)
        for samples in self.vocoder.push(self.chunker.take()):
            yield self._write(samples)

    def finish(self) -> Iterator[Event]:
        """Complete the files with the chunks that are done; raises Stopped if there is none."""
        outputs = self._outputs
        if outputs is None or not (self.complete or self.done):
            name = self._reader.path.name
            raise Stopped(f"{name}: the run was stopped before a chunk was finished.")
        if self._chunk_times:
            for samples in self.vocoder.flush():
                self._write(samples)
            if self._shape:
                outputs.write(*self._shape.flush())
            outputs.flush()
        outputs.close()
        if self._store:
            self._store.close(self.complete and not self.options.keep_chunks)
        results = list(map(self._result, outputs.writers, self.encoders))
        if len(results) == 1:
            yield Finished(results[0])
        else:
            paths, chunks = self.paths, self._chunk_times[: self.done]
            files = paths.difference, chunks, paths.recording, paths.low
            yield Compared(ComparisonResult(*results, *files))

    def close(self) -> None:
        """End the run: incomplete files are removed, finished chunks stay for resuming."""
        if self._outputs:
            self._outputs.discard()
        if self._store:
            self._store.close(complete=False)

    def _open_store(self) -> None:
        """Open the folder of finished chunks; a random seed is replaced by the earlier run's."""
        runtime, options, output = self.runtime, self.options, self.paths.variants[0]
        asked = options.choices(self._seed_drawn)
        recording = self._reader.analysis.sha256
        key = run_key(
            recording,
            (asked, self.encoders, self._borrowed),
            runtime.config,
            runtime.weights_sha256,
            runtime.sampler.facts,
            self.context,
        )
        folder = options.chunk_folder or chunk_folder(output)
        self._store = ChunkStore.open(folder, key, options.seed or 0, options.resume, recording)
        if self._store:
            self.options = replace(options, seed=self._store.seed)

    @property
    def _borrowed(self) -> tuple[str, ...]:
        """The hashes of borrowed recordings; none where nothing is generated."""
        if self._reader.analysis.unchanged:
            return ()
        return tuple(other.analysis.sha256 for other in self._reader.borrowed)

    def _open_outputs(self, generates: bool) -> OutputWriter:
        runtime, reader, analysis = self.runtime, self._reader, self._reader.analysis
        variants = [replace(self.options, encoder=encoder) for encoder in self.encoders]
        facts = [
            run_facts(runtime, analysis, options, generates, reader.tags, self._borrowed)
            for options in variants
        ]
        rate, info = runtime.sample_rate, analysis.info
        splicer = partial(Splicer, analysis.cutoffs, rate, info.channels)
        shape = rate, analysis.samples, analysis.spliced_means
        return OutputWriter(self.paths, *shape, splicer, facts, info.speakers)

    def _plan(self) -> Planned:
        """Plan the chunks, and make what generates, vocodes and writes them."""
        runtime, options, reader = self.runtime, self.options, self._reader
        analysis, features, profile = reader.analysis, reader.features, PROFILES[options.profile]
        model, mel, sounding = runtime.model, runtime.mel, analysis.sounding_cutoffs
        plan = Plan.of(features.frames, profile, runtime.settings, options, self.encoders)
        known = KnownShare() if profile.replaces_share else KnownBand(mel, analysis.cutoffs)
        noise = NoiseField(options.seed or 0, model.channels, model.first_stage_model.config.bins)
        shape = analysis.cutoffs, analysis.info.channels, mel.config.n_mels
        self._takes = plan.takes(options.takes, analysis.seconds)
        variants = variants_of(
            runtime, self.context, self.encoders, options, sounding, profile.prepares
        )
        self.chunker = Chunker(plan, known, noise, variants, *shape, self._takes)
        self.vocoder = StreamingVocoder(
            model.first_stage_model.vocoder,
            noise,
            analysis.samples,
            mel.config.hop,
            runtime.device,
            runtime.precision,
            analysis.cutoffs,
            analysis.image,
            bool(options.temporal_shape),
        )
        self._shape = temporal_shape(self.vocoder.vocoder, options, reader)
        self._outputs.plan(plan.joins, plan.fade_seconds)
        self._chunk_times = plan.spans(analysis.seconds)
        return Planned(
            chunks=self._chunk_times,
            steps=plan.config.steps,
            sampler=plan.config.sampler,
            guidance=plan.config.guidance,
            seed=options.seed or 0,
            encoder=any(self.encoders),
            memory=runtime.memory,
        )

    def _cut(self, frames: Tensor) -> Iterator[Event | ChunkItem | SampleNow]:
        """Append log-mel frames (C, l, M); yields the items of the chunks they complete.

        A chunk of an earlier run is reused, without items, once all chunks before it are there.
        """
        self.chunker.append(frames)
        for chunk, log_mels in self.chunker.chunks():
            kept = self._kept(chunk.index, log_mels.shape)
            if not kept:
                yield from self.chunker.items(chunk, log_mels)
                continue
            if self.done < chunk.index:
                yield SampleNow()
            self._reused.add(chunk.index)
            for variant, finished in enumerate(kept):
                self.chunker.add_chunk(chunk.index, variant, finished)
                yield from self.add(variant, ())

    def _kept(self, chunk: int, shape: tuple[int, ...]) -> list[Tensor]:
        """A chunk of every variant from an earlier run; empty if one is missing."""
        if self._store is None:
            return []
        take, variants = self._takes.get(chunk), range(len(self.encoders))
        kept = [self._store.load(chunk, n, shape, take) for n in variants]
        return [] if any(log_mels is None for log_mels in kept) else kept

    def _blend(self, variant: int) -> Iterator[Event]:
        """Cross-fade the complete chunks of a variant, and store them for a later run."""
        blended = []
        for chunk, log_mels in self.chunker.blend(variant):
            blended.append(chunk)
            if self._store and chunk not in self._reused:
                self._store.save(chunk, variant, log_mels, self._takes.get(chunk))
        if blended:
            yield ChunksDone(tuple(blended), blended[-1] + 1, len(self._chunk_times), variant)

    def _write(self, samples: Tensor) -> Written:
        """Splice generated samples (K * C, n) of the K variants onto the recording, and write."""
        gain, recorded = self._reader.features.gain, self._recorded.take(samples.shape[-1])
        generated = samples.unflatten(0, (len(self.encoders), -1)) / gain  # (K, C, n)
        if self._shape:
            recorded, generated = self._shape.push(recorded, generated)
        blocks = self._outputs.write(recorded, generated)
        writers = self._outputs.writers
        seconds = writers[0].frames / writers[0].sample_rate
        return Written(seconds, tuple(w.temporary for w in writers), tuple(blocks))

    def _result(self, writer: MeteredWriter, encoder: bool) -> UpsampleResult:
        options, analysis = self.options, self._reader.analysis
        info, peak = analysis.info, writer.peak
        return UpsampleResult(
            output=writer.path,
            sample_rate=writer.sample_rate,
            channels=writer.channels,
            samples=writer.frames,
            cutoff_hz=analysis.cutoff_hz,
            chunks=self.done,
            seed=options.seed or 0,
            steps=options.steps or 0,
            sampler=options.sampler or "",
            guidance=options.guidance or 1.0,
            encoder=encoder,
            model=self.runtime.name,
            seconds=writer.frames / writer.sample_rate,
            compute_seconds=time.perf_counter() - self._began,
            input_sample_rate=info.sample_rate,
            subtype=writer.subtype,
            message=self._message(),
            complete=self.complete,
            figures={"peak": peak},
            expectation=self._reader.expectation if encoder else "",
            profile=options.profile,
            resumed=len(self._reused),
            takes=options.takes,
            metadata=metadata_path(writer.path),
            checks=writer.checks(),
            diagnosis=analysis.diagnosis,
            context=context_use(options, self.chunker) if encoder and self.done else None,
            format_note=format_note(writer.subtype, peak, info.subtype, options.format),
        )

    def _message(self) -> str:
        """What the user should know about the result; empty in the ordinary case."""
        chunks = len(self._chunk_times)
        if not chunks:
            return unchanged_message(self._reader.analysis, self.options)
        if not self.complete:
            return f"Stopped early: {self.done} of {chunks} chunks are finished."
        if self._reused and not self.options.takes:
            return f"Resumed: {len(self._reused)} of {chunks} chunks are from an earlier run."
        reduced = [self.runtime.sampler.reduced, self.vocoder.reduced]
        if any(reduced):
            return " ".join(filter(None, reduced))
        if any(self.encoders) and not self.runtime.model.encoder_is_trained:
            return "This model's global encoder is untrained: on and off give the same samples."
        return ""
