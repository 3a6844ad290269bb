"""Pass 1: read a recording once for its length, level, hash and cutoffs.

A profile with its own rules for level and cutoff (lily/dsp/audiosr.py) reads it a second time, when
the seed is known. Signals are (C, n) float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.read import AudioInfo, DecodeWarning, probe, read_blocks
from lily.audio.resample import Resampler
from lily.audio.sample_hash import AudioHash
from lily.bandwidth.diagnosis import (
    SILENT_PEAK,
    ClippingMeter,
    Diagnosis,
    describe,
    detected_cutoffs,
    diagnose,
)
from lily.bandwidth.meter import BandwidthMeter
from lily.dsp import audiosr
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.stereo_image import StereoImage, StereoImageMeter
from lily.errors import InputError
from lily.inference.events import Analyzed
from lily.inference.options import (
    CUTOFFS_HZ,
    UpsampleOptions,
    check_duration,
    check_range,
    cutoff_segments,
)
from lily.inference.profiles import PROFILES

LOST = 1.03  # x Nyquist: below, nothing but the resampler's transition is lost


@dataclass(frozen=True)
class Analysis:
    """What pass 1 finds in a recording, at the model's sample rate."""

    name: str
    info: AudioInfo
    sample_rate: int  # Hz, the model's; ``info`` has the file's own
    samples: int
    recorded_samples: int  # in the file, at its own rate
    peak: float  # the largest of ``peaks``
    means: Tensor  # (C, 1): the DC of each channel, which the networks do not get
    peaks: Tensor  # (C, 1): the largest distance from it
    cutoffs: Cutoffs
    full_band: bool  # nothing is missing, so nothing is generated
    diagnosis: Diagnosis
    image: StereoImage  # how channels relate in phase below the cutoff
    sha256: str  # of the recording as its file holds it: lily/audio/sample_hash.py
    prepared: audiosr.Prepared | None = None  # for the profile with AudioSR's rules

    @property
    def cutoff_hz(self) -> float:
        """The lowest cutoff."""
        return self.cutoffs.lowest_hz

    @property
    def sounding_cutoffs(self) -> Cutoffs:
        """The cutoffs of the channels that are not silent; of all where all are alike."""
        pairs = zip(self.cutoffs.channels, self.peaks.flatten().tolist(), strict=False)
        sounding = [track for track, peak in pairs if peak >= SILENT_PEAK]
        return Cutoffs.of_channels(sounding) if sounding else self.cutoffs

    @property
    def spliced_means(self) -> Tensor:
        """The DC (C, 1) that is not spliced: none for a channel that stays as it is."""
        kept = [self.cutoffs.untouched(channel) for channel in range(self.info.channels)]
        return self.means.masked_fill(torch.tensor(kept)[:, None], 0.0)

    @property
    def seconds(self) -> float:
        """The recording's duration."""
        return self.samples / self.sample_rate

    @property
    def unchanged(self) -> bool:
        """Whether nothing is generated: the diagnosis has the reason, or given cutoffs are it."""
        return self.full_band or self.peak < SILENT_PEAK

    @property
    def advice(self) -> str:
        """How to have something generated for an unchanged recording; empty if nothing can be."""
        if self.peak < SILENT_PEAK:
            return ""
        if self.diagnosis.kind == "tones":
            return "Give a cutoff to fill in what lies above it."
        return "Give a cutoff to replace its top."

    def event(self) -> Analyzed:
        """The event that reports this analysis."""
        return Analyzed(
            self.name,
            self.info.sample_rate,
            self.info.channels,
            self.seconds,
            self.cutoff_hz,
            self.full_band,
            self.diagnosis,
        )


def resampled_blocks(path: Path, sample_rate: int) -> Iterator[Tensor]:
    """A recording at a sample rate in blocks (C, n), the same blocks in every pass."""
    resampler = Resampler(probe(path).sample_rate, sample_rate)
    for block in read_blocks(path):
        yield resampler.push(block)
    yield resampler.flush()


class Analyzer:
    """Measure a recording from its blocks (C, n) at the file's own rate, in one pass."""

    def __init__(
        self,
        name: str,
        info: AudioInfo,
        sample_rate: int,
        options: UpsampleOptions,
        hear: Callable[[Tensor], None] | None = None,
    ) -> None:
        """``hear`` gets the blocks at the model's rate, those of ``resampled_blocks``.

        Raises InputError for a cutoff above the file's Nyquist frequency.
        """
        self._hear = hear
        self.name, self.info, self.sample_rate = name, info, sample_rate
        self._longest = options.longest_seconds
        self._profile = PROFILES[options.profile]
        self._given = cutoff_segments(options.cutoff_hz)
        for _, cutoff_hz in self._given:
            check_range("cutoff in Hz", cutoff_hz, CUTOFFS_HZ[0], info.sample_rate / 2)
        self._resampler = Resampler(info.sample_rate, sample_rate)
        self._bandwidth = BandwidthMeter(sample_rate, nyquist_hz=info.sample_rate / 2)
        # Of sound that the output's sample rate cannot hold.
        self._above = BandwidthMeter(info.sample_rate) if info.sample_rate > sample_rate else None
        self._image = StereoImageMeter(info.channels, sample_rate)
        self._hash = AudioHash(info.sample_rate, info.channels)
        self._clipping = ClippingMeter()
        self._repairs: list[str] = []
        self._recorded = 0  # samples at the file's own rate
        self._samples = 0  # at the model's
        self._sums = torch.zeros(info.channels, 1, dtype=torch.float64)
        self._lowest = torch.full((info.channels, 1), math.inf)
        self._highest = torch.full((info.channels, 1), -math.inf)

    @property
    def seconds(self) -> float:
        """What has been read so far."""
        return self._samples / self.sample_rate

    def push(self, block: Tensor) -> None:
        """Take a block (C, n); raises InputError once the recording is longer than allowed."""
        self._recorded += block.shape[-1]
        self._hash.update(block)
        self._clipping.push(block)
        if self._above:
            self._above.push(block)
        self._measure(self._resampler.push(block))

    def warn(self, warning: DecodeWarning) -> None:
        """Take what decoding repaired or left out, for the diagnosis."""
        self._repairs.append(warning.text)

    def finish(self) -> Analysis:
        """The analysis, after the last block; raises InputError for segments after the end."""
        self._measure(self._resampler.flush())
        means = (self._sums / max(self._samples, 1)).float()
        peaks = torch.maximum(self._highest - means, means - self._lowest)  # (C, 1)
        peak = float(peaks.max())
        diagnosis = diagnose(self.info, self._bandwidth, self._clipping.peaks, means, peak)
        diagnosis = replace(diagnosis, repairs=tuple(self._repairs), lost_hz=self._lost_hz(peak))
        self._check_segments()
        if self._given:
            cutoffs = Cutoffs.from_seconds(self._given, self.sample_rate)
        else:
            cutoffs = detected_cutoffs(self.info, self._bandwidth, self.sample_rate)
        # Above a single cutoff that was asked for, and by AudioSR's rules, something is always
        # generated.
        full_band = cutoffs.full and len(self._given) != 1 and not self._profile.prepares
        nothing = full_band or peak < SILENT_PEAK
        filled_from = None if nothing else cutoffs.lowest_hz
        reason = "as asked" if self._given else ""
        return Analysis(
            name=self.name,
            info=self.info,
            sample_rate=self.sample_rate,
            samples=self._samples,
            recorded_samples=self._recorded,
            peak=peak,
            means=means,
            peaks=peaks,
            cutoffs=cutoffs,
            full_band=full_band,
            diagnosis=describe(diagnosis, self.info, filled_from, reason),
            image=StereoImage.of(self._image.correlation(cutoffs.lowest_hz)),
            sha256=self._hash.hexdigest(),
        )

    def _lost_hz(self, peak: float) -> float:
        """Where sound above the model's Nyquist frequency ends; 0 if there is none."""
        if self._above is None or peak < SILENT_PEAK:
            return 0.0
        found = self._above.result().cutoff_hz
        return found if found > LOST * self.sample_rate / 2 else 0.0

    def _measure(self, block: Tensor) -> None:
        """Take a block (C, n) at the model's rate."""
        if self._hear:
            self._hear(block)
        self._bandwidth.push(block)
        self._image.push(block)
        self._samples += block.shape[-1]
        check_duration(self.name, self.seconds, self._longest)
        if block.shape[-1]:
            self._sums += block.double().sum(dim=1, keepdim=True)
            self._lowest = torch.minimum(self._lowest, block.amin(dim=1, keepdim=True))
            self._highest = torch.maximum(self._highest, block.amax(dim=1, keepdim=True))

    def _check_segments(self) -> None:
        for start, cutoff_hz in self._given[1:]:
            if start >= self.seconds:
                raise InputError(
                    f"The cutoff of {cutoff_hz:.10g} Hz starts at {start:.10g} s, after the end of "
                    f"{self.name} at {self.seconds:.2f} s; give segments that start before it."
                )


def analyze(path: Path, sample_rate: int, options: UpsampleOptions) -> Analysis:
    """Analyze a whole file at once; raises InputError."""
    analyzer = Analyzer(path.name, probe(path), sample_rate, options)
    for block in read_blocks(path, on_warning=analyzer.warn):
        analyzer.push(block)
    return analyzer.finish()


def unchanged_message(analysis: Analysis, options: UpsampleOptions) -> str:
    """What the output of an unchanged recording is, which options had no effect, and the advice."""
    given = {
        "wall": options.wall_hz is not None,
        "brightness": bool(options.brightness_db),
        "context": bool(options.context_files),
    }
    unused = [name for name, is_given in given.items() if is_given]
    named = " and ".join(filter(None, (", ".join(unused[:-1]), *unused[-1:])))
    said = ["Nothing was generated: the output is the recording at 48 kHz."]
    if unused:
        said.append(f"The given {named} {'has' if len(unused) == 1 else 'have'} no effect on it.")
    if options.cutoff_hz is not None and analysis.peak >= SILENT_PEAK:
        begins = f"{analysis.cutoff_hz / 1000:.1f} kHz"
        return " ".join(
            [*said, f"The given cutoffs begin at {begins}, too high to fill anything in."]
        )
    return " ".join(filter(None, [*said, analysis.advice]))


def share_meter(analysis: Analysis) -> audiosr.ShareMeter:
    """Measure the cutoffs by AudioSR's rule, from a second reading at the model's rate."""
    return audiosr.ShareMeter(analysis.samples, analysis.means, analysis.peaks)


def prepare_as_audiosr(
    analysis: Analysis, options: UpsampleOptions, seed: int, share: audiosr.ShareMeter | None
) -> Analysis:
    """The analysis with level, cutoff and low-pass by AudioSR's rules, its filter by the seed.

    ``share`` has measured the whole recording, unless ``options`` give the cutoff.
    """
    given = cutoff_segments(options.cutoff_hz)
    cutoffs_hz = share.finish() if share else (given[0][1],) * analysis.info.channels
    prepared = audiosr.Prepared.of(
        analysis.samples, analysis.means, analysis.peaks, cutoffs_hz, seed
    )
    cutoffs = Cutoffs.constant(max(prepared.lowest_hz or analysis.cutoff_hz, CUTOFFS_HZ[0]))
    reason = "as asked" if given else "by AudioSR's rule"
    return replace(
        analysis,
        prepared=prepared,
        cutoffs=cutoffs,
        diagnosis=describe(analysis.diagnosis, analysis.info, cutoffs.lowest_hz, reason),
    )
