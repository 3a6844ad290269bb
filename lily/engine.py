"""The whole path of a recording, as one stream of events: measure, read, fill, write.

    measure   file -> level, cutoff                                               (pass 1)
    read      file -> low-pass -> log-mel -> global encoder -> context, once      (pass 2)
    fill      file -> low-pass -> log-mel -> chunks -> latents -> sampler -> log-mel
                   -> vocoder -> splice: input below the cutoff, generated above  (pass 3)

Every pass decodes the file again in blocks, so memory does not grow with duration. ``stream`` is
the only way through; ``run_inference``, the command line and the page are built on it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lily.config import Config, InferenceConfig, build, mel_config
from lily.device import choose_device, choose_precision
from lily.dsp.audio import AudioInfo, probe, read_blocks
from lily.dsp.bandwidth import BandwidthMeter
from lily.dsp.blocks import InStep
from lily.dsp.filters import StreamingFir, band_limit_kernel
from lily.dsp.mel import LogMel, MelStream
from lily.dsp.resample import Resampler
from lily.dsp.splice import Splicer
from lily.errors import InputError
from lily.events import (
    ChunksDone,
    Compared,
    ComparisonResult,
    ContextRead,
    Event,
    Finished,
    Planned,
    Sampling,
    StopEarly,
    UpsampleOptions,
    UpsampleResult,
)
from lily.fill import Filler, FillSettings
from lily.model.global_encoder import ContextReader, GlobalContext
from lily.takes import TakePaths, Takes, run
from lily.weights import load_model

CUTOFFS_HZ = (500.0, 23_000.0)  # what --cutoff may be: below, AudioSR never saw an example


@dataclass(frozen=True)
class Measurement:
    """What pass 1 finds, at 48 kHz."""

    name: str
    info: AudioInfo
    samples: int
    peak: float  # around the mean of each channel
    means: Tensor  # (C, 1): the DC of each channel, kept from the networks
    cutoff_hz: float
    full_band: bool

    @property
    def seconds(self) -> float:
        """The recording's duration."""
        return self.samples / 48_000

    def splicer(self) -> Splicer:
        """What joins the recording and one generated take."""
        return Splicer(self.cutoff_hz, 48_000, self.info.channels)


class InferenceEngine:
    """A loaded model and everything needed to run recordings through it, one at a time."""

    def __init__(self, config: Config, device: str = "auto", precision: str = "auto") -> None:
        """Load the configuration's weights; raises WeightsError, ConfigError and InputError."""
        self.config = config
        self.name = str(config.get("name", "model"))
        self.settings = build(InferenceConfig, config["inference"], "inference")
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.model = load_model(config, self.device)
        self.mel = LogMel(mel_config(config.get("preprocessing", {})))
        self.sample_rate = self.mel.config.sample_rate
        self.contexts_computed = 0  # how often the encoder read a recording

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
    ) -> Iterator[Event]:
        """Fill in one recording, telling what happens; closing the generator cancels the run."""
        chosen = self.completed(options or UpsampleOptions())
        output = Path(output_dir) / f"{Path(audio_path).stem}.wav"
        paths = TakePaths((output,))
        results, _ = yield from run(self, Path(audio_path), chosen, (chosen.encoder,), paths)
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
        paths = TakePaths((off, on), difference, *((recording, low) if stems else ()))
        takes, chunks = yield from run(self, Path(audio_path), chosen, (False, True), paths)
        done = chunks[: takes[0].chunks]
        yield Compared(ComparisonResult(*takes, difference, done, paths.recording, paths.low))

    def completed(self, options: UpsampleOptions) -> UpsampleOptions:
        """The options with the preset's defaults filled in; raises InputError for a wrong one."""
        s = self.settings
        steps = s.steps["default"] if options.steps is None else options.steps
        guidance = s.guidance["default"] if options.guidance is None else options.guidance
        sampler = options.sampler or s.sampler
        seed = secrets.randbelow(s.seed_max) if options.seed is None else options.seed
        within("steps", steps, s.steps["min"], s.steps["max"])
        within("guidance", guidance, s.guidance["min"], s.guidance["max"])
        within("seed", seed, 0, s.seed_max)
        if options.cutoff_hz is not None:
            within("cutoff in Hz", options.cutoff_hz, *CUTOFFS_HZ)
        if sampler not in s.samplers:
            raise InputError(f"Sampler {sampler!r} is not known; choose {' or '.join(s.samplers)}.")
        if options.encoder and self.model.unet.global_encoder is None:
            raise InputError(f"{self.name} has no global encoder; choose encoder off.")
        return replace(
            options, steps=steps, guidance=float(guidance), sampler=sampler, seed=int(seed)
        )

    # ---- pass 1 ---------------------------------------------------------------------------------

    def measure(self, path: Path, options: UpsampleOptions) -> Measurement:
        """Read the recording for its length, level and cutoff."""
        info = probe(path)
        if options.cutoff_hz is not None:
            within("cutoff in Hz", options.cutoff_hz, CUTOFFS_HZ[0], info.sample_rate / 2)
        meter = BandwidthMeter(self.sample_rate, nyquist_hz=info.sample_rate / 2)
        samples = 0
        sums = torch.zeros(info.channels, 1, dtype=torch.float64)
        lowest, highest = (torch.full((info.channels, 1), inf) for inf in (math.inf, -math.inf))
        for block in self.blocks(path):
            meter.push(block)
            samples += block.shape[-1]
            if block.shape[-1]:
                sums += block.double().sum(dim=1, keepdim=True)
                lowest = torch.minimum(lowest, block.amin(dim=1, keepdim=True))
                highest = torch.maximum(highest, block.amax(dim=1, keepdim=True))
        found = meter.result()
        cutoff = options.cutoff_hz or found.cutoff_hz
        means = (sums / max(samples, 1)).float()
        return Measurement(
            name=path.name,
            info=info,
            samples=samples,
            peak=float(torch.maximum(highest - means, means - lowest).max()),
            means=means,
            cutoff_hz=cutoff,
            full_band=options.cutoff_hz is None and found.full,
        )

    def blocks(self, path: Path) -> Iterator[Tensor]:
        """The recording at 48 kHz in blocks (C, n), the same ones at every pass."""
        info = probe(path)
        resampler = Resampler(info.sample_rate, self.sample_rate)
        for block in read_blocks(path):
            yield resampler.push(block)
        yield resampler.flush()

    def network_blocks(self, path: Path, measured: Measurement) -> Iterator[Tensor]:
        """What the networks may know: one gain for the recording, nothing above the cutoff."""
        gain = self.gain(measured)
        kernel = band_limit_kernel(measured.cutoff_hz, self.sample_rate)
        low_pass = StreamingFir(kernel)
        for block in self.blocks(path):
            yield low_pass.push((block - measured.means) * gain)
        yield low_pass.flush()

    def gain(self, measured: Measurement) -> float:
        """The factor that brings the recording to the level the networks were trained at."""
        return self.settings.level_peak / measured.peak

    # ---- pass 2 ---------------------------------------------------------------------------------

    def read_context(
        self, path: Path, measured: Measurement
    ) -> Generator[ContextRead, None, GlobalContext]:
        """Read the whole recording, mixed to one channel, into its context."""
        frames = -(-measured.samples // self.mel.config.hop)
        encoder = self.model.unet.global_encoder
        assert encoder is not None  # completed() has refused otherwise
        reader, stream, seen = ContextReader(encoder, frames), MelStream(self.mel), 0
        for block in self.network_blocks(path, measured):
            seen += block.shape[-1]
            reader.push(stream.push(block.mean(0, keepdim=True))[0])
            yield ContextRead(min(1.0, seen / measured.samples))
        reader.push(stream.flush()[0])
        self.contexts_computed += 1
        return reader.finish()

    # ---- pass 3 ---------------------------------------------------------------------------------

    def fill(
        self,
        path: Path,
        measured: Measurement,
        contexts: Sequence[GlobalContext | None],
        options: UpsampleOptions,
        takes: Takes,
    ) -> Generator[Event, None, tuple[int, tuple[tuple[float, float], ...]]]:
        """Generate and write every chunk, one take a context; returns how many are done, and all.

        StopEarly, thrown in once a chunk is finished, ends it there.
        """
        filler = Filler(
            self.model,
            self.mel,
            self.settings,
            FillSettings(
                samples=measured.samples,
                channels=measured.info.channels,
                cutoff_hz=measured.cutoff_hz,
                steps=options.steps or 0,
                sampler=options.sampler or "",
                guidance=options.guidance or 1.0,
                seed=options.seed or 0,
            ),
            contexts,
            self.device,
            self.precision,
        )
        pairs = InStep(self.blocks(path))
        stream, gain = MelStream(self.mel), self.gain(measured)
        try:
            yield Planned(
                chunks=filler.spans(),
                steps=options.steps or 0,
                sampler=options.sampler or "",
                guidance=options.guidance or 1.0,
                seed=options.seed or 0,
                encoder=any(context is not None for context in contexts),
            )
            for frames in stream.over(self.network_blocks(path, measured)):
                for made in filler.push(frames):
                    if isinstance(made, Sampling | ChunksDone):
                        yield made
                    else:
                        takes.write(pairs.take(made.shape[-1]), made / gain)
        except StopEarly:
            if not filler.finished:
                raise
            for made in filler.rest():
                takes.write(pairs.take(made.shape[-1]), made / gain)
        takes.flush()
        return filler.finished, filler.spans()


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless low <= value <= high."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value:.10g}; give {low:.10g} to {high:.10g}.")
