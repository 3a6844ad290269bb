"""The profile of a recording: twelve figures that describe its highs independently of its content.

The first entries of the encoder's vector are its estimate of them, the next as many the logarithm
of each estimate's variance; training scores both by the Gaussian log-likelihood. Because the U-Net
reads the same entries, a figure that is known can be set, and the model follows it.
All figures are taken from a full-band log-mel (L, M) in natural units and then standardised by
their mean and spread over the training corpus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lily.dsp.mel import LOG_FLOOR
from lily.model.global_encoder import GlobalContext

# Bands of the levels in Hz; the reference is 1 to 2 kHz, which almost every recording has.
REFERENCE_HZ = (1_000.0, 2_000.0)
BANDS_HZ = (
    (2_000.0, 3_000.0),
    (3_000.0, 4_500.0),
    (4_500.0, 6_700.0),
    (6_700.0, 10_000.0),
    (10_000.0, 15_000.0),
    (15_000.0, 24_000.0),
)
EDGE, LEVELS, FLOOR, SLOPE, FLATNESS, CREST, HOLES = 0, slice(1, 7), 7, 8, 9, 10, 11
# Name, unit, mean and spread over the albums of the training corpus.
FIGURES = (
    ("edge", "kHz", 19.5, 2.8),
    ("level 2-3 kHz", "dB", -3.4, 2.5),
    ("level 3-4.5 kHz", "dB", -6.7, 4.3),
    ("level 4.5-6.7 kHz", "dB", -10.0, 6.0),
    ("level 6.7-10 kHz", "dB", -14.5, 7.0),
    ("level 10-15 kHz", "dB", -21.0, 8.0),
    ("level 15 kHz-edge", "dB", -36.0, 10.0),
    ("floor", "dB", -19.0, 7.5),
    ("slope", "dB/dB", 0.73, 0.35),
    ("flatness", "dB", 5.8, 2.2),
    ("crest", "dB", 17.0, 6.3),
    ("holes", "", 0.02, 0.05),
)
COUNT = len(FIGURES)
KNOWN = -5.0  # log variance of a figure that was set: a spread of 0.08 standard units
LEAST, MOST = -5.0, 3.0  # of the log variance
DB = 20 / math.log(10)  # of one neper
HEARD_DB = 50.0  # under the mean: quieter frames are left out, as in the log-spectral distance
EDGE_DB = (10.0, 38.0)  # the band ends where it is this near the floor, or this far under its peak
MOST_FRAMES = 3_000  # looked at: of a longer recording, evenly spaced ones
HIGHS_HZ = 4_000.0
CERTAIN_KHZ = 1.5  # standard deviation of the edge below which it is named without reserve
AUDIBLE_DB = 1.5


def measure(log_mel: Tensor, bins_hz: Tensor, holes: float = 0.0) -> Tensor:
    """The profile (12,), standardised, of a full-band log-mel (L, M); NaN where it has none.

    ``bins_hz`` (M,) are the bins' centres; ``holes`` is the share of bins that a codec emptied in
    the recording as it arrived.
    """
    values = torch.full((COUNT,), math.nan)
    log_mel = log_mel[:: max(1, len(log_mel) // MOST_FRAMES)]
    energy = (2 * log_mel).exp()
    frames = energy.sum(-1)
    heard = frames > frames.mean() * 10 ** (-HEARD_DB / 10)
    if float(log_mel.amax()) <= LOG_FLOOR + 1:
        return values  # silence has no profile
    log_mel = log_mel[heard]
    edge = _edge_bin(energy[heard].mean(0).log() / 2, bins_hz)
    edge_hz = float(bins_hz[edge])
    means = log_mel.mean(0) * DB
    reference = float(means[_within(bins_hz, *REFERENCE_HZ)].mean())
    values[EDGE] = edge_hz / 1000
    for place, (low, high) in enumerate(BANDS_HZ):
        if edge_hz > low * 1.05:
            band = _within(bins_hz, low, min(high, edge_hz))
            values[1 + place] = means[band].mean() - reference
    values[HOLES] = holes
    highs = log_mel[:, _within(bins_hz, HIGHS_HZ, edge_hz)]
    if highs.shape[1] >= 8 and len(highs) >= 10:
        values[FLOOR : CREST + 1] = _movement(
            highs, log_mel[:, _within(bins_hz, *REFERENCE_HZ)].mean(1)
        )
    return standardised(values)


def _movement(highs: Tensor, lows: Tensor) -> Tensor:
    """Floor, slope, flatness and crest (4,) of the highs (L, K), given the lows' level (L,)."""
    level = highs.mean(1)
    quiet = level <= level.quantile(0.1)
    floor = (level[quiet].mean() - level.mean()) * DB
    low = lows - lows.mean()
    slope = (low * (level - level.mean())).sum() / low.square().sum().clamp(min=1e-3)
    flatness = (highs.exp().mean(1).log() - level).mean() * DB
    crest = (level.quantile(0.95) - level.mean()) * DB
    return torch.stack([floor, slope, flatness, crest])


def _edge_bin(spectrum: Tensor, bins_hz: Tensor) -> int:
    """The last bin that belongs to the band, of a mean spectrum (M,) in nepers."""
    above, under = (db / DB for db in EDGE_DB)
    peak = float(spectrum[bins_hz >= HIGHS_HZ].amax())
    inside = (spectrum > max(LOG_FLOOR + above, peak - under)).nonzero()
    return int(inside.max()) if len(inside) else 0


def _within(bins_hz: Tensor, low: float, high: float) -> Tensor:
    return (bins_hz >= low) & (bins_hz <= high)


def standardised(values: Tensor) -> Tensor:
    """Figures (..., 12) in their units to units of the corpus' spread."""
    means, spreads = _scale()
    return (values - means) / spreads


def in_units(values: Tensor) -> Tensor:
    """The reverse of ``standardised``."""
    means, spreads = _scale()
    return values * spreads + means


def _scale() -> tuple[Tensor, Tensor]:
    return torch.tensor([f[2] for f in FIGURES]), torch.tensor([f[3] for f in FIGURES])


def estimate(vector: Tensor) -> tuple[Tensor, Tensor]:
    """What a vector (B, D) says: figures and log variances, each (B, 12), standardised."""
    return vector[:, :COUNT], vector[:, COUNT : 2 * COUNT].clamp(LEAST, MOST)


def likelihood_loss(vector: Tensor, profile: Tensor) -> Tensor:
    """Minus the Gaussian log-likelihood of profiles (B, 12) under vectors (B, D), a scalar.

    Figures that are NaN are left out.
    """
    means, variances = estimate(vector.float())
    given = ~profile.isnan()
    errors = (means - profile.nan_to_num()).square()
    terms = (errors * (-variances).exp() + variances) / 2
    return (terms * given).sum() / given.sum().clamp(min=1)


def with_known(context: GlobalContext, known: Tensor) -> GlobalContext:
    """The context with the figures of ``known`` (B, 12), standardised, set; NaN are left as read.

    The networks learn nothing through the profile's entries but by their own loss, so that what is
    read and what is set mean the same.
    """
    vector = context.vector
    means, variances = (x.detach() for x in estimate(vector))
    given = ~known.isnan()
    means = torch.where(given, known.nan_to_num().to(means), means)
    variances = variances.masked_fill(given, KNOWN)
    return replace(context, vector=torch.cat([means, variances, vector[:, 2 * COUNT :]], dim=1))


def read(context: GlobalContext) -> Mapping[str, tuple[float, float]]:
    """What a recording's context says of it: each figure and its standard deviation, in units."""
    means, variances = estimate(context.vector.float().cpu())
    spreads = (variances / 2).exp() * _scale()[1]
    pairs = zip(in_units(means)[0].tolist(), spreads[0].tolist(), strict=True)
    return {figure[0]: pair for figure, pair in zip(FIGURES, pairs, strict=True)}


def sentence(context: GlobalContext, cutoff_hz: float, wall_hz: float | None = None) -> str:
    """The profile that a context says, in words: where the highs end, and how bright they are.

    A given ``wall_hz`` is where they end, so that nothing is expected of that.
    """
    figures = read(context)
    edge, spread = figures[FIGURES[EDGE][0]]
    place = "near" if spread < CERTAIN_KHZ else "somewhere near"
    bands = [1 + n for n, (_, high) in enumerate(BANDS_HZ) if high > cutoff_hz]
    brighter = sum(figures[FIGURES[n][0]][0] - FIGURES[n][2] for n in bands) / len(bands)
    level = "of average brightness"
    if abs(brighter) >= AUDIBLE_DB:
        level = f"{abs(brighter):.0f} dB {'brighter' if brighter > 0 else 'darker'} than average"
    if wall_hz is not None:
        return f"The highs end at {wall_hz / 1000:.4g} kHz, as set; expected {level}."
    return f"Expects the highs to end {place} {edge:.0f} kHz, {level}."


def with_wall(context: GlobalContext, wall_hz: float) -> GlobalContext:
    """The context with the end of the highs set, as known."""
    units = torch.full((1, COUNT), math.nan)
    units[0, EDGE] = wall_hz / 1000
    return with_known(context, standardised(units))
