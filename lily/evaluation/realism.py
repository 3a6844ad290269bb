"""AUC of a small classifier between generated and recorded highs; 0.5 is indistinguishable.

Patches of 64 bands by 32 frames (0.17 s) show the highs with the octave below the cutoff, so that
"does not fit the lows" counts; they end at 16 kHz, so that a recording's own end is no clue. A
convolutional network of 14,000 parameters is trained on half of the collections and tested on the
other half, then the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.evaluation.metrics import SAMPLE_RATE
from lily.evaluation.spectra import Spectra

N_FFT, HOP = 1024, 256
BANDS, FRAMES = 64, 32
TOP_HZ = 16_000.0
PATCHES = 24  # of a recording, evenly spread over its sounding part
FLOOR = 1e-7
SOUNDING_DB = 40.0  # under the loudest frame
STEPS, BATCH, LEARNING_RATE = 300, 64, 2e-3
FEWEST_COLLECTIONS = 4


@dataclass(frozen=True)
class Pair:
    """Patches (N, 64, 32) of a recording as it was and as it was generated, at the same places."""

    collection: str
    real: Tensor
    made: Tensor


def patches(
    reference: Spectra, estimate: Spectra, cutoff_hz: float, collection: str
) -> Pair | None:
    """Cut patches at the same places of both; None where too little sounds."""
    real, made = (_bands(x, cutoff_hz) for x in (reference, estimate))
    level = real.mean(0)
    sounding = (level > level.max() - SOUNDING_DB / 10).nonzero()[:, 0]
    starts = sounding[sounding + FRAMES <= real.shape[1]]
    if len(starts) < PATCHES:
        return None
    starts = starts[torch.linspace(0, len(starts) - 1, PATCHES).long()].tolist()
    cut = [torch.stack([x[:, s : s + FRAMES] for s in starts]).half() for x in (real, made)]
    return Pair(collection, *cut)


def auc(pairs: Sequence[Pair], seed: int = 0) -> float | None:
    """Mean area under the ROC curve over both halves; None with fewer than four collections."""
    collections = sorted({pair.collection for pair in pairs})
    if len(collections) < FEWEST_COLLECTIONS:
        return None
    half = set(collections[::2])
    first = [pair for pair in pairs if pair.collection in half]
    second = [pair for pair in pairs if pair.collection not in half]
    return (_transfer(first, second, seed) + _transfer(second, first, seed)) / 2


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """Probability that a positive score (N,) exceeds a negative one (M,); ties count half."""
    scores = torch.cat([positive, negative]).double()
    below = (scores[:, None] > negative.double()).sum(1) + (scores[:, None] >= negative).sum(1)
    return float(below[: len(positive)].double().mean() / (2 * len(negative)))


def _bands(of: Spectra, cutoff_hz: float) -> Tensor:
    """log10 levels (64, L) of equal bands from half the cutoff to 16 kHz."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(of.mono, N_FFT, HOP, window=window, center=False, return_complex=True)
    low, high = (round(hz * N_FFT / SAMPLE_RATE) for hz in (cutoff_hz / 2, TOP_HZ))
    power = spectrum[low:high].abs().square() / window.square().sum()
    return (F.adaptive_avg_pool1d(power.T, BANDS).T + FLOOR).log10()


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 40, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((8, 1)),
        nn.Flatten(),
        nn.Linear(320, 1),
    )


def _transfer(train: Sequence[Pair], test: Sequence[Pair], seed: int) -> float:
    """Train on some collections and return the area under the curve on others."""
    real, made = (torch.cat([getattr(p, name) for p in train]).float() for name in ("real", "made"))
    mean, spread = real.mean((0, 2), keepdim=True), real.std((0, 2), keepdim=True).clamp(min=0.1)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            chosen = torch.randint(len(real), (BATCH // 2,), generator=generator)
            batch = (torch.cat([real[chosen], made[chosen]]) - mean) / spread
            scores = network(batch[:, None])[:, 0]
            labels = torch.cat([torch.ones(BATCH // 2), torch.zeros(BATCH // 2)])
            loss = F.binary_cross_entropy_with_logits(scores, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        of_real, of_made = (
            torch.cat([network(((getattr(p, n).float() - mean) / spread)[:, None]) for p in test])
            for n in ("real", "made")
        )
    return area_under_curve(of_real[:, 0], of_made[:, 0])
