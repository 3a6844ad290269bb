"""Seam score: the generated band at the joins between chunks, compared with everywhere else.

Every 10 ms the level of the output is measured in eight bands above the cutoff. Flux is their mean
change from one frame to the next: a click or a jump raises it, a blend that blurs lowers it. At a
place, flux and level over the width of a cross-fade are compared with the half seconds before and
after it; then places with a join are compared with all places without one. Most of the difference
is the music's own, so the part that can be predicted from the band below the cutoff, which has no
joins, is subtracted (two control variates, with weights fitted where there is no join). A ratio of
1 means that joins cannot be distinguished. Memory does not grow with duration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs

SIZE, HOP = 1024, 480  # samples: 21 ms every 10 ms at 48 kHz
BANDS = 8
BELOW = (0.3, 0.9)  # x the lowest cutoff: the band that predicts changes of the music
CLEAR_OF_CUTOFF = 1.05  # x cutoff: above the crossover
TOP_HZ = 20_000.0  # many recordings end here
SILENT_DB = -90.0  # frames below are left out
AROUND = 50  # frames on each side of a place to compare it with: half a second
GUARD = 5  # frames between a place and its surroundings
FEWEST = 3  # joins that a score needs at least


@dataclass(frozen=True)
class SeamScore:
    """Ratios of joins to everywhere else, 1.0 without a difference, and standard errors."""

    joins: int  # that were compared; those in silence or near the ends are left out
    flux_ratio: float
    flux_error: float
    level_ratio: float
    level_error: float


class _Places:
    """Sums over places of one kind: four measurements and their products."""

    def __init__(self) -> None:
        self.count = 0
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._products = torch.zeros(4, 4, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take (4, P): flux and level above the cutoff, and the same below it."""
        self.count += values.shape[1]
        self._sums += values.sum(1)
        self._products += values @ values.T

    @property
    def means(self) -> Tensor:
        """The mean (4,)."""
        return self._sums / max(1, self.count)

    @property
    def covariance(self) -> Tensor:
        """(4, 4)."""
        return self._products / max(1, self.count) - torch.outer(self.means, self.means)


class SeamMeter:
    """Score an output block by block; ``joins`` are the centres of its cross-fades in seconds."""

    def __init__(
        self, joins: Sequence[float], width: float, cutoffs: Cutoffs, sample_rate: int
    ) -> None:
        """``width`` is a cross-fade in seconds; full segments and channels are not scored."""
        self._rate = sample_rate
        self._half = max(1, round(width * sample_rate / HOP / 2))
        self._reach = self._half + GUARD + AROUND
        # Joins lie between two frames; rounded to samples, so that no last digit chooses which.
        self._joins = torch.tensor(
            [round(second * sample_rate) // HOP for second in joins], dtype=torch.long
        )
        self._cutoffs = cutoffs
        filled = [n for n, track in enumerate(cutoffs.channels) if not track.full]
        self._filled = filled or None  # channels; None: all, with the same cutoffs
        tracks = [cutoffs.channels[n] for n in filled] or [cutoffs]
        self._edges = torch.stack([self._edges_of(track) for track in tracks])  # (T, 2, BANDS + 1)
        self._usable = bool((self._edges.diff() > 0).all()) and len(self._joins) >= FEWEST
        self._window = torch.hann_window(SIZE)
        self._scale = 2.0 / SIZE / float(self._window.square().sum())
        self._samples: Tensor | None = None
        self._last: Tensor | None = None  # (C, 1, 2, BANDS) of the frame before
        self._measured = torch.zeros(4, 0)  # flux above and below the cutoff, level above and below
        self._first = 0  # frame at which they begin
        self._at_joins, self._elsewhere = _Places(), _Places()

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        if not self._usable or not block.numel():
            return
        if self._filled is not None:
            block = block[self._filled]
        if self._samples is None:  # the first frame's middle is sample HOP / 2
            self._samples = block.new_zeros(block.shape[0], SIZE // 2 - HOP // 2)
        self._samples = torch.cat([self._samples, block], dim=-1)
        count = (self._samples.shape[-1] - SIZE) // HOP + 1
        if count > 0:
            self._take(self._samples.unfold(-1, SIZE, HOP))
            self._samples = self._samples[:, count * HOP :]

    def result(self) -> SeamScore | None:
        """The score; None with too few joins, or too few places without one."""
        here, there = self._at_joins, self._elsewhere
        if here.count < FEWEST or there.count < FEWEST:
            return None
        spread = there.covariance
        below = spread[2:, 2:] + 1e-9 * torch.eye(2, dtype=torch.float64)
        weights = torch.linalg.solve(below, spread[2:, :2])  # (2, 2): of the prediction
        difference = here.means - there.means
        flux, level = (difference[:2] - difference[2:] @ weights).tolist()
        left = (spread[:2, :2] - spread[:2, 2:] @ weights).diagonal().clamp(min=0)
        flux_error, level_error = (left / here.count).sqrt().tolist()
        return SeamScore(
            joins=here.count,
            flux_ratio=round(math.exp(flux), 5),
            flux_error=round(math.exp(flux) * flux_error, 5),
            level_ratio=round(math.exp(level), 5),
            level_error=round(math.exp(level) * level_error, 5),
        )

    def _edges_of(self, cutoffs: Cutoffs) -> Tensor:
        """The bins (2, BANDS + 1) of bands above and below a channel's cutoffs."""
        nyquist = self._rate / 2
        filled = [hz for hz in cutoffs.hz if not self._cutoffs.keeps(hz)]
        low = CLEAR_OF_CUTOFF * max(filled, default=nyquist)
        high = min(max(min(TOP_HZ, nyquist), low + 2_000.0), nyquist)
        lowest = cutoffs.lowest_hz
        spans = (low, high), (BELOW[0] * lowest, BELOW[1] * lowest)
        edges = torch.stack([torch.linspace(*span, BANDS + 1) for span in spans])
        return (edges / self._rate * SIZE).round().long().clamp(1, SIZE // 2 + 1)

    def _take(self, frames: Tensor) -> None:
        """Measure flux and level of frames (C, L, SIZE), and compare the places they complete."""
        spectra = torch.fft.rfft(frames * self._window)
        power = (spectra.real.square() + spectra.imag.square()) * self._scale
        total = F.pad(power.cumsum(-1, dtype=torch.float64), (1, 0))
        edges = self._edges.expand(len(total), -1, -1)
        chosen = [own[:, places] for own, places in zip(total, edges, strict=True)]
        bands = torch.stack(chosen).diff(dim=-1)  # (C, L, 2, BANDS)
        floor = 10 ** (SILENT_DB / 10)
        level = 0.5 * bands.sum((0, -1)).clamp(min=floor / 10).log()  # (L, 2), of amplitude
        logs = 0.5 * bands.clamp(min=floor / BANDS / 10).log()
        before = logs[:, :1] if self._last is None else self._last
        change = torch.cat([before, logs], dim=1).diff(dim=1).abs().mean((0, 3))  # (L, 2)
        self._last = logs[:, -1:]
        self._measured = torch.cat([self._measured, torch.cat([change, level], 1).T.float()], dim=1)
        count = self._measured.shape[1] - 2 * self._reach
        if count > 0:
            self._compare(count)
            self._measured = self._measured[:, count:]
            self._first += count

    def _compare(self, count: int) -> None:
        """Compare ``count`` places, each at the centre of 2 reach + 1 frames."""
        inside = torch.zeros(2 * self._reach + 1)
        inside[self._reach - self._half : self._reach + self._half + 1] = 1
        around = torch.zeros_like(inside)
        around[:AROUND] = around[-AROUND:] = 1
        kernels = torch.stack([inside / inside.sum(), around / around.sum()])[:, None]
        here, there = F.conv1d(self._measured[:, None], kernels).double().unbind(1)  # (4, P) each
        flux = (here[:2] + 1e-6).log() - (there[:2] + 1e-6).log()
        values = torch.cat([flux, here[2:] - there[2:]])[[0, 2, 1, 3]]
        silent = (self._measured[2] < math.log(10) * SILENT_DB / 20).float()[None, None]
        heard = F.max_pool1d(silent, 2 * self._reach + 1, 1)[0, 0] == 0
        places = torch.arange(self._first + self._reach, self._first + self._reach + count)
        filled = torch.ones(count, dtype=torch.bool)
        if len(self._cutoffs.hz) > 1:
            filled = self._cutoffs.at((places + 0.5) * HOP) < FULL_BAND_HZ
        after = torch.searchsorted(self._joins, places).clamp(max=len(self._joins) - 1)
        before = (after - 1).clamp(min=0)
        near = torch.minimum(
            (self._joins[after] - places).abs(), (self._joins[before] - places).abs()
        )
        self._at_joins.add(values[:, heard & filled & (near == 0)])
        self._elsewhere.add(values[:, heard & filled & (near > self._reach + self._half)])
