"""Pass 1: read a recording once for its hash, level and cutoffs, and say what it is.

A profile with rules of its own for level and cutoff reads it once more, when the seed is known.
Signals are (C, n) float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.read import probe, read_blocks
from lily.audio.resample import Resampler
from lily.audio.sample_hash import AudioHash
from lily.bandwidth.diagnosis import ClippingMeter, describe, diagnose
from lily.bandwidth.meter import BandwidthMeter
from lily.dsp import audiosr
from lily.dsp.cutoffs import Cutoffs
from lily.inference.events import Reading, UpsampleOptions
from lily.inference.options import (
    CUTOFFS_HZ,
    Measurement,
    leaves_nothing,
    pieces,
    refuse_longer,
    within,
)
from lily.inference.profiles import PROFILES


def recording_blocks(
    path: Path, sample_rate: int, *meters: Callable[[Tensor], None]
) -> Iterator[Tensor]:
    """A recording at a sample rate in blocks (C, n), the same ones at every pass.

    ``meters`` are told every block as the file holds it, at its own rate.
    """
    resampler = Resampler(probe(path).sample_rate, sample_rate)
    for block in read_blocks(path):
        for meter in meters:
            meter(block)
        yield resampler.push(block)
    yield resampler.flush()


def measure(
    path: Path, sample_rate: int, options: UpsampleOptions
) -> Generator[Reading, None, Measurement]:
    """Read a recording for its length, level and cutoffs; raises InputError."""
    info = probe(path)
    given = pieces(options.cutoff_hz)
    for _, cutoff_hz in given:
        within("cutoff in Hz", cutoff_hz, CUTOFFS_HZ[0], info.sample_rate / 2)
    meter = BandwidthMeter(sample_rate, nyquist_hz=info.sample_rate / 2)
    samples, digest, clipping = 0, AudioHash(info.sample_rate, info.channels), ClippingMeter()
    sums = torch.zeros(info.channels, 1, dtype=torch.float64)
    lowest, highest = (torch.full((info.channels, 1), inf) for inf in (math.inf, -math.inf))
    for block in recording_blocks(path, sample_rate, digest.update, clipping.push):
        meter.push(block)
        samples += block.shape[-1]
        refuse_longer(path.name, samples / sample_rate, options.longest_seconds)
        if block.shape[-1]:
            sums += block.double().sum(dim=1, keepdim=True)
            lowest = torch.minimum(lowest, block.amin(dim=1, keepdim=True))
            highest = torch.maximum(highest, block.amax(dim=1, keepdim=True))
        yield Reading(samples / sample_rate)
    means = (sums / max(samples, 1)).float()
    peaks = torch.maximum(highest - means, means - lowest)  # (C, 1)
    peak = float(peaks.max())
    finding = diagnose(info, meter, clipping.peaks, means, peak)
    cutoffs = Cutoffs.from_seconds(given or finding.segments, sample_rate)
    because = "as asked" if given else ""
    return Measurement(
        name=path.name,
        info=info,
        samples=samples,
        peak=peak,
        means=means,
        peaks=peaks,
        cutoffs=cutoffs,
        full_band=leaves_nothing(given, cutoffs),
        finding=describe(finding, info.sample_rate, cutoffs.lowest_hz, because),
        sha256=digest.hexdigest(),
    )


def prepare(
    path: Path, sample_rate: int, measured: Measurement, options: UpsampleOptions
) -> Generator[Reading, None, Measurement]:
    """Measure by the profile's own rules where it has some; the seed is known by now."""
    if not PROFILES[options.profile].prepares or not measured.samples:
        return measured
    given = pieces(options.cutoff_hz)
    cutoff_hz = given[0][1] if given else None
    prepared = yield from _as_events(
        audiosr.prepare(
            recording_blocks(path, sample_rate),
            measured.samples,
            measured.means,
            measured.peaks,
            options.seed or 0,
            cutoff_hz,
        )
    )
    cutoffs = Cutoffs.constant(max(prepared.lowest_hz or measured.cutoff_hz, CUTOFFS_HZ[0]))
    because = "as asked" if given else "by AudioSR's rule"
    return replace(
        measured,
        prepared=prepared,
        cutoffs=cutoffs,
        full_band=False,
        finding=describe(measured.finding, measured.info.sample_rate, cutoffs.lowest_hz, because),
    )


def _as_events(
    reading: Generator[float, None, audiosr.Prepared],
) -> Generator[Reading, None, audiosr.Prepared]:
    """Report the seconds that AudioSR's preparation has read as events."""
    while True:
        try:
            yield Reading(next(reading))
        except StopIteration as end:
            return end.value
