"""Measure an output against its recording in one pass, and hold the figures to their limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.certify.check import LENGTH, NULL, RECORDED_PEAK, TRUE_PEAK, Check
from lily.certify.null_test import NullDepth, NullTest, decibels
from lily.certify.seams import SeamMeter, SeamScore
from lily.certify.true_peak import TruePeakMeter
from lily.dsp.blocks import SampleFifo
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.splice import CROSSOVER_START

BLOCK = 65_536  # samples measured at once; fixed, so that the caller's blocks change no figure
FULL_SCALE = 1.0 - 2.0**-22  # the last 24-bit step below full scale, or beyond

# Limits of the checks.
NULL_DB = 60.0  # a difference this far down lies below the noise of any recording
ROUNDING_DB = -140.0  # rounding to 24 bits makes -146 dBFS, independently of the recording's level
LEVEL_DB = 0.01  # a hundredth of an audible change
DC = 1e-5  # of full scale: -100 dBFS
# The DC of a generated band that is cut off at both ends: a sample at the output's peak, or the sum
# of half a period of the lowest frequency that is generated, if that is more.
ENDS = 1.0
ENDS_PER_PERIOD = math.pi * CROSSOVER_START
CORRELATION = 0.001
SEAM = 0.05
SEAM_ERRORS = 3.0  # standard errors: what chance does to the score of a few joins


@dataclass(frozen=True)
class Measurements:
    """What an output kept of its recording, and the score of its joins."""

    null: NullDepth
    dc_change: float  # the largest of any channel, of full scale
    true_peak_db: tuple[float, float]  # dBTP, of the recording and of the output
    at_full_scale: tuple[int, int]  # samples at full scale or beyond, in recording and output
    seams: SeamScore | None  # None where there are too few joins to compare


class OutputMeter:
    """Measure blocks (C, n) of a recording and of its output; either may run ahead.

    ``cutoffs`` None means that the output should be the recording over the whole band. ``joins``
    are the centres of the cross-fades between chunks in seconds, ``fade`` is their length.
    """

    def __init__(
        self,
        cutoffs: Cutoffs | None,
        sample_rate: int,
        joins: Sequence[float] = (),
        fade: float = 0.0,
    ) -> None:
        self._null = NullTest(cutoffs, sample_rate)
        self._signals = _SignalMeter(), _SignalMeter()
        self._seams = SeamMeter(joins, fade, cutoffs, sample_rate) if cutoffs and joins else None
        self._waiting = SampleFifo(), SampleFifo()  # of the recording, of the output

    def push(self, recording: Tensor | None = None, output: Tensor | None = None) -> None:
        """Take a block (C, n) of either or both."""
        for queue, block in zip(self._waiting, (recording, output), strict=True):
            if block is not None:
                queue.push(block)
        if self._seams is not None and output is not None:
            self._seams.push(output)
        while self._both >= BLOCK:
            self._measure(BLOCK)

    def finish(self) -> Measurements:
        """Measure the rest, as much as both have, and return the figures; nothing may follow."""
        if self._both:
            self._measure(self._both)
        before, after = self._signals
        return Measurements(
            null=self._null.finish(),
            dc_change=float(f"{float((after.dc() - before.dc()).abs().max()):.3g}"),
            true_peak_db=(before.true_peak_db(), after.true_peak_db()),
            at_full_scale=(before.at_full_scale, after.at_full_scale),
            seams=self._seams.result() if self._seams is not None else None,
        )

    @property
    def _both(self) -> int:
        """Samples that both have."""
        return min(queue.count for queue in self._waiting)

    def _measure(self, count: int) -> None:
        pair = [queue.take(count) for queue in self._waiting]
        for meter, block in zip(self._signals, pair, strict=True):
            meter.push(block)
        self._null.push(*pair)


class _SignalMeter:
    """DC, true peak and samples at full scale of one signal."""

    def __init__(self) -> None:
        self.at_full_scale = 0
        self._true_peak = TruePeakMeter()
        self._samples = 0
        self._sums = torch.zeros(1, dtype=torch.float64)

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        self._samples += block.shape[-1]
        self._sums = self._sums + block.sum(-1, dtype=torch.float64)
        if block.numel() and float(block.abs().max()) >= FULL_SCALE:
            self.at_full_scale += int((block.abs() >= FULL_SCALE).sum())
        self._true_peak.push(block)

    def dc(self) -> Tensor:
        """The mean (C,) of each channel."""
        return self._sums / max(1, self._samples)

    def true_peak_db(self) -> float:
        """In dBTP; nothing may be pushed after it."""
        return round(decibels(self._true_peak.result() ** 2), 2)


def checks(
    found: Measurements, samples: tuple[int, int], subtype: str, period: float = 0.0
) -> tuple[Check, ...]:
    """Every figure with its unit, and whether it passed.

    ``samples`` are the lengths of recording and output at the output's sample rate; ``subtype`` is
    the output's, as a float file cannot clip. ``period`` is that of the lowest cutoff, in samples.
    """
    expected, length = samples
    null = found.null
    peak = max(1.0, 10 ** (found.true_peak_db[1] / 20))  # highs beyond full scale leave more DC
    clipped = 0 if subtype == "FLOAT" else max(0, found.at_full_scale[1] - found.at_full_scale[0])
    rows = [
        Check(LENGTH, f"{length:,} of {expected:,}", "samples", length == expected),
        _null_check(NULL, null.depth_db, null.residual_db),
        _null_check("Null depth, worst 0.34 s", null.worst_db, null.residual_db),
        Check(
            "Level below the crossover, change",
            null.level_change_db,
            "dB",
            abs(null.level_change_db) <= LEVEL_DB,
        ),
        Check(
            "DC, change",
            found.dc_change,
            "of full scale",
            found.dc_change <= DC + max(ENDS, period / ENDS_PER_PERIOD) * peak / max(1, length),
        ),
    ]
    if null.correlation_change is not None:
        rows.append(
            Check(
                "Stereo correlation below the crossover, change",
                null.correlation_change,
                passed=abs(null.correlation_change) <= CORRELATION,
            )
        )
    rows += [
        Check("Samples clipped by the output", clipped, "", clipped == 0),
        Check(RECORDED_PEAK, found.true_peak_db[0], "dBTP"),
        Check(TRUE_PEAK, found.true_peak_db[1], "dBTP"),
    ]
    return (*rows, *(_seam_checks(found.seams) if found.seams else ()))


def _null_check(label: str, depth_db: float | None, residual_db: float) -> Check:
    if depth_db is None:
        return Check(label, "too short to measure")
    return Check(label, round(depth_db, 1), "dB", depth_db >= NULL_DB or residual_db <= ROUNDING_DB)


def _seam_checks(score: SeamScore) -> tuple[Check, ...]:
    figures = (
        ("flux", score.flux_ratio, score.flux_error),
        ("level", score.level_ratio, score.level_error),
    )
    return tuple(
        Check(
            f"Seam score, {name} at {score.joins} joins",
            ratio,
            f"± {error:.3f}",
            abs(ratio - 1.0) <= max(SEAM, SEAM_ERRORS * error),
        )
        for name, ratio, error in figures
    )
