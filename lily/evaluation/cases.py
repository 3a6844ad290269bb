"""How the recordings of an evaluation are degraded, and what the engine is given of it.

``lowpass``: an 8th-order Butterworth filter run forwards and backwards; the engine is given the
cutoff. ``tones``: the same, of synthetic tones instead of recordings. ``mp3``: a round trip at a
bit rate, the cutoff detected. ``changing``: a third is untouched, the rest low-passed; the border
is given, and only the narrow part is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lily.bandwidth.meter import BandwidthMeter
from lily.dsp.codec import mp3, round_trip
from lily.dsp.cutoffs import FADE
from lily.dsp.degrade import LowpassSpec, apply_lowpass
from lily.evaluation.metrics import SAMPLE_RATE
from lily.evaluation.settings import Case

ORDER = 8  # doubled by running forwards and backwards
WIDE_SHARE = 1 / 3  # of a recording of changing bandwidth


@dataclass(frozen=True)
class Degraded:
    """A recording (C, T) as it arrived."""

    samples: Tensor
    cutoff_hz: float  # where LSD-HF begins
    cutoffs: float | tuple[tuple[float, float], ...]  # given to the engine, in Hz
    judged: slice  # the samples that are compared


def degrade_for(case: Case, reference: Tensor, index: int) -> Degraded:
    """Degrade the ``index``-th recording (C, T) of an evaluation."""
    everything = slice(0, reference.shape[-1])
    if case.kind == "mp3":
        low = round_trip(reference, mp3(case.value))
        meter = BandwidthMeter(SAMPLE_RATE)
        meter.push(low)
        found = meter.result().cutoff_hz
        return Degraded(low, found, found, everything)
    low = apply_lowpass(reference, LowpassSpec("butter", ORDER, case.value), SAMPLE_RATE)
    if case.kind in ("lowpass", "tones"):
        return Degraded(low, case.value, case.value, everything)
    return _changing(case, reference, low, wide_first=index % 2 == 0)


def _changing(case: Case, reference: Tensor, low: Tensor, wide_first: bool) -> Degraded:
    length = reference.shape[-1]
    border = round(length * (WIDE_SHARE if wide_first else 1 - WIDE_SHARE))
    ramp = ((torch.arange(length) - border) / FADE + 0.5).clamp(0, 1)
    wide = 1 - ramp if wide_first else ramp
    full_hz = SAMPLE_RATE / 2 - 1_000
    cutoffs = ((0.0, full_hz), (border / SAMPLE_RATE, case.value))
    judged = slice(border + FADE, length)
    if not wide_first:
        cutoffs = ((0.0, case.value), (border / SAMPLE_RATE, full_hz))
        judged = slice(0, border - FADE)
    return Degraded(wide * reference + (1 - wide) * low, case.value, cutoffs, judged)
