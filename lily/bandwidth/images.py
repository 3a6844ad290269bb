"""Detect images: a recording that was upsampled without an anti-imaging filter.

Linear or cubic interpolation and held samples leave a mirrored copy of the band above the old
Nyquist frequency. At equal distances on both sides of it every frame then has the same fine
structure, but for a smooth loss: x dB per dB of frequency ratio, 1 for held samples, 2 for linear,
up to 4 for cubic interpolation. Real sound has unrelated fine structure there, so that the levels
differ as much as those at unequal distances. A harmonic series may mirror itself about any
frequency, but then it agrees at some unequal distances too.
"""

from __future__ import annotations

import torch
from torch import Tensor

RATES = (8_000, 9_600, 10_000, 11_025, 12_000, 16_000, 18_900, 22_050, 24_000, 32_000, 37_800)
NEAREST_HZ, STEP_HZ, PAIRS = 150.0, 60.0, 64  # distances from an old Nyquist frequency
REACH = 0.75  # x the old Nyquist frequency: the largest distance
# Steps between distances that count as unequal: 180 Hz, more than the window's lobe, and more, as a
# harmonic series agrees with itself at some of them.
APART = range(3, 13)
EVERY = 4  # frames: images are in all of them
AUDIBLE_DB = (-95.0, -100.0)  # of the two levels of a pair, below and above
ALIKE_DB = 7.0  # largest RMS difference of images after the loss
UNLIKE_DB = 5.0  # least RMS difference at every unequal distance
MOVING_DB = 3.0  # least RMS change over time of the fine structure; a sustained note has less
# x the least mean square difference at unequal distances. Images have 0.33 and less (held samples
# of 11.025 kHz 0.53), 562 untouched clips 0.62 and more.
ALIKE = 0.5
LOSS = (0.3, 6.0)  # of images
FEWEST = 250  # pairs of levels
AT_ONCE = 64  # frames that are used, for one product of matrices: 5 s


class ImageDetector:
    """Compare the levels on both sides of the Nyquist frequencies of common sample rates."""

    def __init__(self, bin_hz: float, nyquist_hz: float) -> None:
        self._axes = [rate / 2 for rate in RATES if rate / 2 < REACH * nyquist_hz]
        distances = NEAREST_HZ + STEP_HZ * torch.arange(PAIRS)
        axes = torch.tensor(self._axes)[:, None]
        self._usable = distances < torch.minimum(REACH * axes, nyquist_hz - axes) - bin_hz
        self._below = ((axes - distances) / bin_hz).round().long() * self._usable
        mirrored = (2 * axes / bin_hz - self._below) * self._usable
        self._above = mirrored.long()
        self._between = mirrored - self._above  # the mirrored frequency lies between two bins
        self._ratio_db = 20 * torch.log10(mirrored.clamp(min=1) / self._below.clamp(min=1))
        # Sums over frames of products, of all distances below with all above: powers 0 to 2 of the
        # level below times the power 0, 1 or 2 of that above, where both are heard.
        self._products = [
            torch.zeros(len(self._axes), rows * PAIRS, PAIRS, dtype=torch.float64)
            for rows in (3, 2, 1)
        ]
        # Of levels below, relative to the frame's mean: count, sum, sum of squares.
        self._moves = torch.zeros(3, *self._usable.shape, dtype=torch.float64)
        self._skipped = 0  # frames until the next that is used
        self._waiting: list[Tensor] = []  # (L, F) of frames that are used

    def add(self, power: Tensor) -> None:
        """Add frames of power (L, F)."""
        count, power = len(power), power[self._skipped :: EVERY]
        self._skipped = (self._skipped - count) % EVERY
        self._waiting.append(power)
        if sum(map(len, self._waiting)) >= AT_ONCE:
            self._take()

    def _take(self) -> None:
        """Take the frames that wait."""
        levels = 10 * torch.log10(torch.cat(self._waiting) + 1e-20)
        self._waiting = []
        below = levels[:, self._below]  # (L, A, P)
        above = torch.lerp(levels[:, self._above], levels[:, self._above + 1], self._between)
        usable = self._usable & (below > AUDIBLE_DB[0])
        mean = (below * usable).sum(-1, keepdim=True) / usable.sum(-1, keepdim=True).clamp(min=1)
        relative = (below - mean) * usable
        moves = (usable, relative, relative.square())
        self._moves += torch.stack([part.sum(0, dtype=torch.float64) for part in moves])
        low = _powers(below, usable).permute(2, 0, 3, 1).flatten(1, 2)  # (A, 3 P, L)
        heard = self._usable & (above > AUDIBLE_DB[1])
        high = _powers(above, heard).transpose(1, 2)  # (3, A, L, P)
        for products, columns in zip(self._products, high, strict=True):
            products.baddbmm_(low[:, : products.shape[1]], columns)

    def _sums(self) -> Tensor:
        """Sums over pairs (1 + len(APART), 4, A), of equal and of unequal distances.

        They are the count, loss x ratio, ratio squared and loss squared.
        """
        if self._waiting:
            self._take()
        of_high, of_high_level, of_high_square = (
            products.unflatten(1, (-1, PAIRS)).unbind(1) for products in self._products
        )
        count = of_high[0]  # (A, P, P), as those below
        loss = of_high[1] - of_high_level[0]
        squares = of_high[2] - 2 * of_high_level[1] + of_high_square[0]
        ratio = (self._ratio_db[:, :, None] + self._ratio_db[:, None]).double() / 2
        terms = torch.stack([count, loss * ratio, count * ratio * ratio, squares])
        return torch.stack([terms.diagonal(n, 2, 3).sum(-1) for n in (0, *APART)])

    def nyquist_hz(self) -> float | None:
        """Return the lowest Nyquist frequency that has images, or None."""
        count, products, ratios, losses = self._sums().unbind(1)  # (2, A) each
        slope = products / ratios.clamp(min=1e-9)
        rest = (losses - slope * products).clamp(min=0) / count.clamp(min=1)
        found = (count[0] >= FEWEST) & (slope[0] > LOSS[0]) & (slope[0] < LOSS[1])
        unlike = rest[1:].amin(dim=0)
        found &= (rest[0] < ALIKE_DB**2) & (unlike > UNLIKE_DB**2) & (rest[0] < ALIKE * unlike)
        counts, sums, squares = self._moves  # (A, P) each
        change = (squares - sums.square() / counts.clamp(min=1)).sum(1) / counts.sum(1).clamp(min=1)
        found &= change > MOVING_DB**2
        return self._axes[int(found.nonzero()[0])] if found.any() else None


def _powers(levels: Tensor, heard: Tensor) -> Tensor:
    """The powers 0, 1 and 2 (3, L, A, P) of levels where they are heard, else 0; float64."""
    count = heard.double()
    once = levels * count
    return torch.stack([count, once, once * levels])
