"""The whole path of a recording, as one stream of events: measure, read, fill, write.

    measure   file -> level, cutoff                                               (pass 1)
    read      file -> low-pass -> log-mel -> global encoder -> context, once      (pass 2)
    fill      file -> low-pass -> log-mel -> chunks -> latents -> sampler -> log-mel
                   -> vocoder -> splice: input below the cutoff, generated above  (pass 3)

Every pass works on blocks, so memory does not grow with duration; what pass 2 has read waits for
pass 3, on disk where it is long. ``stream`` is the only way through; ``run_inference``, the command
line and the page are built on it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from lily.checkpoints.model_folder import weights_sha256
from lily.checkpoints.resolve import with_weights
from lily.config.inference import InferenceConfig
from lily.config.presets import Config, mel_config
from lily.config.sections import build
from lily.dsp.blocks import InStep, drained
from lily.dsp.mel import LogMel
from lily.errors import InputError
from lily.inference.analyze import measure, prepare, recording_blocks
from lily.inference.device import choose_device, choose_precision
from lily.inference.events import (
    ChunksDone,
    Compared,
    ComparisonResult,
    ContextRead,
    Event,
    Finished,
    Planned,
    StopEarly,
    UpsampleOptions,
    UpsampleResult,
)
from lily.inference.features import Heard, Hearing
from lily.inference.generate import Filler, FillSettings, Waiting
from lily.inference.identity import facts_of
from lily.inference.interleave import Recording, alone
from lily.inference.memory import foretold, housed
from lily.inference.options import Measurement
from lily.inference.output import OutputPaths, OutputWriter, run
from lily.inference.profiles import PROFILES, completed
from lily.inference.resume import ChunkCache, KeptRun
from lily.inference.sample import RowSampler
from lily.model.global_encoder import ContextReader, GlobalContext


class InferenceEngine:
    """A loaded model and everything needed to run recordings through it, one at a time."""

    def __init__(
        self,
        config: Config,
        device: str = "auto",
        precision: str = "auto",
        low_memory: bool = False,
    ) -> None:
        """Load the configuration's weights; raises WeightsError, ConfigError and InputError.

        ``low_memory`` keeps one network at a time on the device, and one row in it.
        """
        self.config = config = with_weights(config)
        self.name = str(config.get("name", "model"))
        self.settings = build(InferenceConfig, config["inference"], "inference")
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device, self.settings.large)
        self._where = self.device, self.precision, low_memory
        self.model, self.settings = housed(config, self.settings, *self._where)
        self.mel = LogMel(mel_config(config.get("preprocessing", {})))
        self.sample_rate = self.mel.config.sample_rate
        self.contexts_computed = 0  # how often the encoder read a recording
        self.cache = ChunkCache.from_environment(os.environ)
        self.filler: Callable[..., Filler] = Filler  # what fills a recording in
        self.sampler = RowSampler(self.model, self.settings, self.device, self.precision)

    def run_inference(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        progress_callback: Callable[[int, int], None] | None = None,
        **options: object,
    ) -> UpsampleResult:
        """Fill in one recording and write ``output_dir/<stem>.wav``.

        ``options`` are UpsampleOptions' fields; ``progress_callback(done_chunks, total_chunks)``.
        Raises InputError, and leaves nothing half-written.
        """
        for event in self.stream(audio_path, output_dir, UpsampleOptions(**options)):  # type: ignore[arg-type]
            if isinstance(event, ChunksDone) and progress_callback is not None:
                progress_callback(event.done, event.total)
            if isinstance(event, Finished):
                return event.result
        raise RuntimeError("the stream ended without a result")

    def stream(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        *,
        context: GlobalContext | None = None,
    ) -> Iterator[Event]:
        """Fill in one recording, telling what happens; closing the generator cancels the run.

        ``context`` takes the place of the recording's own: what another recording would say.
        """
        yield from alone(self.begin(audio_path, output_dir, options, context), self.sampler)

    def begin(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        context: GlobalContext | None = None,
    ) -> Recording:
        """What ``stream`` drives alone: many of these, driven together, share their batches."""
        chosen = self.completed(options or UpsampleOptions())
        output = Path(output_dir) / f"{Path(audio_path).stem}.{chosen.format}"
        paths = OutputPaths((output,))
        seed, encoders = options.seed if options else None, (chosen.encoder,)
        results, _ = yield from run(self, Path(audio_path), chosen, seed, encoders, paths, context)
        yield Finished(results[0])

    def compare(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        stems: bool = False,
    ) -> Iterator[Event]:
        """Fill in one recording with the encoder off and on; each has the bits it has alone.

        ``options.encoder`` is not asked. ``stems`` adds the recording at 48 kHz and the band that
        both takes keep of it. Raises InputError where there is nothing to compare.
        """
        yield from alone(self._comparison(audio_path, output_dir, options, stems), self.sampler)

    def _comparison(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None,
        stems: bool,
    ) -> Recording:
        chosen = self.completed(replace(options or UpsampleOptions(), encoder=True))
        if not self.model.encoder_is_trained:
            raise InputError(
                f"The global encoder of {self.name} is untrained: on and off give the same "
                "samples, so there is nothing to compare; choose a model whose encoder is trained."
            )
        stem, folder = Path(audio_path).stem, Path(output_dir)
        off, on, difference, recording, low = (
            folder / f"{stem}.{name}.wav" for name in ("off", "on", "diff", "input", "low")
        )
        paths = OutputPaths((off, on), difference, *((recording, low) if stems else ()))
        seed = options.seed if options else None
        takes, chunks = yield from run(self, Path(audio_path), chosen, seed, (False, True), paths)
        done = chunks[: takes[0].chunks]
        yield Compared(ComparisonResult(*takes, difference, done, paths.recording, paths.low))

    @cached_property
    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of each file the weights came from, read when first asked for."""
        return weights_sha256(self.config)

    @cached_property
    def memory(self) -> int | None:
        """Bytes that tensors will take at most; None where that is not worth asking."""
        return foretold(self.config, self.settings, *self._where)

    def completed(self, options: UpsampleOptions) -> UpsampleOptions:
        """The options with the preset's defaults filled in; raises InputError for a wrong one."""
        options = completed(options, self.settings, secrets.randbelow(self.settings.seed_max))
        if not options.encoder or self.model.unet.global_encoder is not None:
            return options
        raise InputError(f"{self.name} has no global encoder; choose encoder off.")

    def blocks(self, path: Path) -> Iterator[Tensor]:
        """The recording at the engine's rate in blocks (C, n), the same ones at every pass."""
        return recording_blocks(path, self.sample_rate)

    def hearing(self, measured: Measurement) -> Hearing:
        """What the networks hear of a recording."""
        return Hearing(self.mel, measured, self.settings.level_peak)

    # ---- pass 2 ---------------------------------------------------------------------------------

    def context_of(
        self, audio_path: str | Path, options: UpsampleOptions | None = None
    ) -> GlobalContext:
        """A recording's context on its own; raises InputError as ``stream`` does."""
        chosen, path = self.completed(options or UpsampleOptions()), Path(audio_path)
        measured = drained(measure(path, self.sample_rate, chosen))
        measured = drained(prepare(path, self.sample_rate, measured, chosen))
        return drained(self.read_context(path, measured))

    def read_context(
        self, path: Path, measured: Measurement, heard: Heard | None = None
    ) -> Generator[ContextRead, None, GlobalContext]:
        """Read the whole recording, mixed to one channel, into its context.

        ``heard`` gets what pass 3 would read and compute once more.
        """
        hearing, seen = self.hearing(measured), 0
        encoder = self.model.unet.global_encoder
        assert encoder is not None  # completed() has refused otherwise
        reader = ContextReader(encoder, hearing.frames)
        for frames in hearing.mixed(self.blocks(path), heard):
            seen += frames.shape[1]
            reader.push(frames[0])
            yield ContextRead(min(1.0, seen / hearing.frames))
        self.contexts_computed += 1
        return reader.finish()

    # ---- pass 3 ---------------------------------------------------------------------------------

    def fill(
        self,
        path: Path,
        measured: Measurement,
        contexts: Sequence[GlobalContext | None],
        options: UpsampleOptions,
        takes: OutputWriter,
        kept: KeptRun | None = None,
        heard: Heard | None = None,
    ) -> Generator[Event | Waiting, None, tuple[int, tuple[tuple[float, float], ...], int]]:
        """Generate and write every chunk, one take a context.

        Returns how many are done, all, and how many of them were kept from an earlier run. It waits
        for whoever drives it to have its rows sampled. StopEarly, thrown in once a chunk is
        finished, ends it there. ``heard`` is what pass 2 has read, if it has.
        """
        hearing, pairs = self.hearing(measured), InStep()
        blocks = heard.blocks() if heard and heard.samples.count else self.blocks(path)
        settings = self.settings_of(measured, options)
        filler = self.filler(
            self.model, self.mel, self.settings, settings, contexts, self.device, self.precision
        )
        takes.plan(*filler.joins())
        if kept:
            filler.kept = kept.chunks([facts_of(settings, context) for context in contexts])
        try:
            yield Planned(
                chunks=filler.spans(),
                steps=settings.steps,
                sampler=settings.sampler,
                guidance=settings.guidance,
                seed=settings.seed,
                encoder=any(context is not None for context in contexts),
                memory=self.memory,
            )
            for made in filler.over(hearing.over(pairs.over(blocks), heard)):
                if isinstance(made, Tensor):
                    takes.write(pairs.take(made.shape[-1]), made / hearing.gain)
                else:
                    yield made
        except StopEarly:
            if not filler.finished:
                raise
            for made in filler.rest():
                takes.write(pairs.take(made.shape[-1]), made / hearing.gain)
        takes.flush()
        return filler.finished, filler.spans(), filler.kept.found if filler.kept else 0

    def settings_of(self, measured: Measurement, options: UpsampleOptions) -> FillSettings:
        """What pass 3 is told of the recording and of the choices."""
        return FillSettings(
            samples=measured.samples,
            channels=measured.info.channels,
            cutoffs=measured.cutoffs,
            steps=options.steps or 0,
            sampler=options.sampler or "",
            guidance=options.guidance or 1.0,
            seed=options.seed or 0,
            profile=PROFILES[options.profile],
            frames=self.hearing(measured).frames,
        )
