"""How the channels of a recording relate in phase, and noise that relates in the same way.

Channels are generated one by one. What is generated for them from the same noise would be in phase,
whatever the recording is: opposite polarity would be lost, and two different sources would get one
and the same noise. So the correlation of the channels just below the cutoff is measured, and the
noise of each channel is a mix of independent noises with that correlation. A channel of opposite
polarity is generated with its sign turned. Signals are (C, n) float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 2048  # samples: bins of 23 Hz at 48 kHz
BANDS = 128  # in which powers are kept until the cutoff is known: 188 Hz wide at 48 kHz
BELOW = (0.3, 0.9)  # x cutoff: the band whose relation the generated one continues
ALIKE = 1e-3  # 1 - correlation squared, under which channels are taken to be the same signal
RELATED = 0.1  # correlation from which its sign is known


@dataclass(frozen=True)
class StereoImage:
    """``signs`` (C,) of the channels, and the shares (C, C) of independent noises in each."""

    signs: Tensor
    shares: Tensor

    @classmethod
    def of(cls, correlation: Tensor) -> StereoImage:
        """Make the image of a correlation matrix (C, C)."""
        shares = torch.zeros_like(correlation)
        signs = torch.ones(len(correlation))
        for row in range(len(correlation)):
            for column in range(row):
                known = shares[row, :column] @ shares[column, :column]
                if shares[column, column] > 0:
                    share = (correlation[row, column] - known) / shares[column, column]
                    shares[row, column] = share
            left = 1 - shares[row].square().sum()
            shares[row, row] = left.clamp(min=0).sqrt() if left > ALIKE else 0.0
            shares[row] /= shares[row].norm()
            if row:
                nearest = int(correlation[row, :row].abs().argmax())
                if correlation[row, nearest] < -RELATED:
                    signs[row] = -signs[nearest]
                elif correlation[row, nearest] > RELATED:
                    signs[row] = signs[nearest]
        return cls(signs, shares.float())

    def mix(self, noises: Tensor) -> Tensor:
        """Mix independent noises (C, n) into one for each channel, before its sign is turned."""
        return self.signs[:, None] * (self.shares @ noises)


class StereoImageMeter:
    """Measure how the channels of a stream of blocks (C, n) correlate, by bands."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._rate = sample_rate
        self._window = torch.hann_window(SIZE)
        self._rest = torch.zeros(channels, 0)
        self._powers = torch.zeros(BANDS, channels, channels, dtype=torch.float64)

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        joined = torch.cat([self._rest, block], dim=-1)
        count = joined.shape[-1] // SIZE
        if len(joined) > 1 and count:
            frames = joined[:, : count * SIZE].unflatten(-1, (count, SIZE))
            spectra = torch.fft.rfft(frames * self._window)[..., 1:]  # (C, L, 1024)
            bands = spectra.unflatten(-1, (BANDS, -1)).permute(2, 0, 1, 3).flatten(2)  # (B, C, .)
            self._powers += (bands @ bands.mH).real
        self._rest = joined[:, count * SIZE :].clone()

    def correlation(self, cutoff_hz: float) -> Tensor:
        """The correlation (C, C) of the channels below a cutoff; silent channels have none."""
        band_hz = self._rate / 2 / BANDS
        low, high = (int(share * cutoff_hz / band_hz) for share in BELOW)
        powers = self._powers[low : max(high, low + 1)].sum(0)
        levels = powers.diagonal().sqrt()
        scale = torch.outer(levels, levels)
        found = torch.where(scale > 1e-12 * scale.max(), powers / scale.clamp(min=1e-30), 0.0)
        # Rounded: the order of summation must not change the noise.
        return found.round(decimals=4).fill_diagonal_(1.0).clamp(-1.0, 1.0)
