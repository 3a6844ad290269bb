"""A proper score of two draws of a log-mel: what the diffusion's last stage minimises.

For two draws y1, y2 and the original x the score is (d(x, y1) + d(x, y2) - s d(y1, y2)) / 2
(Gritsenko et al. 2020, arXiv:2008.01160), least for s = 1 when the draws are distributed as the
original is given the input. s below 1 asks for draws that differ less. d is the weighted
root-mean-square difference of a frame, and that of a patch of 8 frames and 8 mel bins. A squared
mean error of six bands keeps each row's level. Log-mels are (B, T, M) in nepers; distances are in
log10 of power, as the log-spectral distance is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PER_NEPER = 0.8685889638065037  # log10 of power: 2 / ln 10
FRAMES, PATCHES, BIAS = 0.6, 0.3, 0.1  # weights of the score's parts
PATCH = 8  # frames and mel bins
BANDS = 6
HEARD = 5.76  # nepers: frames 50 dB under the loudest decile of the row are quiet
QUIET_WEIGHT = 0.2


@dataclass(frozen=True)
class Weights:
    """What counts in a score: frames (B, T) and mel bins (B, M)."""

    frames: Tensor
    bins: Tensor


def frame_weights(target: Tensor, narrow: Tensor) -> Tensor:
    """Weights (B, T) of frames: none where the recording is wide, little where it is quiet."""
    level = target.amax(-1)
    heard = level > level.quantile(0.9, dim=1, keepdim=True) - HEARD
    return narrow.float() * torch.where(heard, 1.0, QUIET_WEIGHT)


def mel_score(
    target: Tensor, first: Tensor, second: Tensor, weights: Weights, spread: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The score of two draws (B, T, M), a scalar, and figures to log.

    ``spread`` (B,) is s of each row.
    """
    pairs = ((target, first), (target, second), (first, second))
    frames = torch.stack([_frame_distance(a, b, weights) for a, b in pairs])  # (3, B)
    patches = torch.stack([_patch_distance(a, b, weights) for a, b in pairs])
    both = FRAMES * frames + PATCHES * patches
    score = (both[0] + both[1] - spread * both[2]) / 2
    bias = _band_bias((first + second) / 2 - target, weights)  # (B, bands)
    loss = (score + BIAS * bias.square().mean(1)).mean()
    figures = {
        "distance": frames[:2].mean().detach(),
        "between_draws": frames[2].mean().detach(),
        "bias_db": 10 * bias.mean().detach(),
    }
    return loss, figures


def _frame_distance(a: Tensor, b: Tensor, weights: Weights) -> Tensor:
    """Mean over frames of the RMS over mel bins, (B,)."""
    square = (PER_NEPER * (a - b)).square() * weights.bins[:, None]
    total = weights.bins.sum(-1, keepdim=True).clamp(min=1e-3)
    rms = (square.sum(-1) / total + 1e-4).sqrt()  # (B, T)
    return (rms * weights.frames).sum(1) / weights.frames.sum(1).clamp(min=1)


def _patch_distance(a: Tensor, b: Tensor, weights: Weights) -> Tensor:
    """Mean over patches of the RMS within each, (B,)."""
    square = (PER_NEPER * (a - b)).square() * weights.frames[..., None]
    square = square.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH)).mean((2, 4))
    share = weights.frames.unflatten(1, (-1, PATCH)).mean(2)[..., None]  # (B, T / 8, 1)
    bins = weights.bins.unflatten(1, (-1, PATCH)).mean(2)[:, None]  # (B, 1, M / 8)
    rms = (square / share.clamp(min=1e-3) + 1e-4).sqrt()
    weight = share * bins
    return (rms * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-3)


def _band_bias(error: Tensor, weights: Weights) -> Tensor:
    """Mean error (B, 6) in six bands of equal weight."""
    share = weights.bins.cumsum(-1) / weights.bins.sum(-1, keepdim=True).clamp(min=1e-3)
    band = (share * BANDS - 1e-6).long().clamp(0, BANDS - 1)  # (B, M)
    inside = torch.nn.functional.one_hot(band, BANDS).float() * weights.bins[..., None]
    mean = (error * weights.frames[..., None]).sum(1) / weights.frames.sum(1, keepdim=True).clamp(
        min=1
    )
    sums = PER_NEPER * (mean[..., None] * inside).sum(1)
    return sums / inside.sum(1).clamp(min=1e-3)
