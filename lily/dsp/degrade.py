"""Decide how training takes the highs away: seeded low-passes, resampling and lossy codecs.

Four IIR families as AudioSR draws them (Butterworth, Chebyshev I, elliptic, Bessel; run forwards
and backwards, so their order doubles and their delay vanishes) and resampling down and up again,
which is what most real recordings went through; round trips through MP3, Vorbis and Opus; and the
rounding of a recording made at a low level. Frequencies are in Hz, signals are (C, T) float32.
Source: AudioSR (arXiv:2309.07314), section 3; the ripples are its `lowpass.py`'s.
"""

from dataclasses import dataclass

import torch
from scipy import signal
from torch import Tensor

from lily.audio.resample import resample
from lily.dsp.codec import CodecSpec, random_codec, round_trip
from lily.errors import InputError

IIR_FAMILIES = ("butter", "cheby1", "ellip", "bessel")
FAMILIES = (*IIR_FAMILIES, "resample")
ORDERS = (2, 10)
RIPPLE_DB = 0.1  # in the passband of cheby1 and ellip
STOPBAND_DB = 60.0  # of ellip
RATE_STEP_HZ = 100  # "resample" goes through rates of this grid: small ratios, exact and quick


@dataclass(frozen=True)
class LowpassSpec:
    """One low-pass: a family, its order (ignored by "resample") and where it ends."""

    family: str
    order: int
    cutoff_hz: float


@dataclass(frozen=True)
class Degradation:
    """What happened to a recording: a low-pass or a codec, at a level, perhaps kept in 16 bits."""

    how: LowpassSpec | CodecSpec
    level_db: float = 0.0  # peak in dBFS when it was recorded
    rounded: bool = False  # to 16 bits, with triangular dither


LEVELS_DB = (-40.0, 0.0)  # peaks of recordings people have


def random_degradation(
    generator: torch.Generator, cutoff_range_hz: tuple[float, float], codec_share: float
) -> Degradation:
    """Draw a degradation from `generator` alone; `codec_share` of them are codecs."""
    places = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    how: LowpassSpec | CodecSpec = random_lowpass(generator, cutoff_range_hz)
    if places[0] < codec_share:
        how = random_codec(generator)
    level = LEVELS_DB[0] + places[1] * (LEVELS_DB[1] - LEVELS_DB[0])
    return Degradation(how, level, rounded=places[2] < 0.5)


def degrade(
    x: Tensor, degradation: Degradation, sample_rate: int, generator: torch.Generator
) -> Tensor:
    """Degrade a signal (C, T) -> (C, T) at its own level; `generator` draws the dither.

    Raises InputError as `apply_lowpass` and `round_trip` do.
    """
    how = degradation.how
    if isinstance(how, CodecSpec):
        return round_trip(x, how)
    low = apply_lowpass(x, how, sample_rate)
    if not degradation.rounded:
        return low
    gain = 10 ** (degradation.level_db / 20) / float(low.abs().max().clamp(min=1e-9))
    dither = torch.rand(2, *low.shape, generator=generator)
    steps = low * (gain * 2**15) + (dither[0] - dither[1])
    return steps.round() / (gain * 2**15)


def random_lowpass(
    generator: torch.Generator,
    cutoff_range_hz: tuple[float, float] = (2_000.0, 16_000.0),
    families: tuple[str, ...] = FAMILIES,
) -> LowpassSpec:
    """Draw family, order and cutoff (uniform within the range) from `generator` alone.

    Raises InputError for an empty range or an unknown family.
    """
    low, high = cutoff_range_hz
    if not 0 < low <= high:
        raise InputError(f"Cutoffs from {low:g} to {high:g} Hz are no range; give 0 < low <= high.")
    for family in families:
        _known(family)
    family = families[int(torch.randint(len(families), (), generator=generator))]
    order = int(torch.randint(ORDERS[0], ORDERS[1] + 1, (), generator=generator))
    place = float(torch.rand((), generator=generator, dtype=torch.float64))
    return LowpassSpec(family, order, low + place * (high - low))


def apply_lowpass(x: Tensor, spec: LowpassSpec, sample_rate: int) -> Tensor:
    """Low-pass a signal (C, T) -> (C, T) without delay.

    Raises InputError for an unknown family, an order outside 2 to 10 or a cutoff that is not
    between 0 and half the sample rate.
    """
    _known(spec.family)
    if not 0 < spec.cutoff_hz < sample_rate / 2:
        raise InputError(
            f"A cutoff of {spec.cutoff_hz:g} Hz is impossible at {sample_rate} Hz; give more than "
            f"0 and less than {sample_rate / 2:g} Hz."
        )
    if spec.family == "resample":
        rate = max(1, round(2 * spec.cutoff_hz / RATE_STEP_HZ)) * RATE_STEP_HZ
        low = resample(x, sample_rate, min(rate, sample_rate))
        return resample(low, min(rate, sample_rate), sample_rate)[:, : x.shape[-1]]
    sections = _design(spec, sample_rate)
    padding = min(3 * (2 * len(sections) + 1), x.shape[-1] - 1)  # scipy's own, where T allows it
    filtered = signal.sosfiltfilt(sections, x.double().numpy(), axis=-1, padlen=max(0, padding))
    return torch.from_numpy(filtered.copy()).float()


def _known(family: str) -> None:
    if family not in FAMILIES:
        raise InputError(f"No low-pass family is called {family!r}; choose from {FAMILIES}.")


def _design(spec: LowpassSpec, sample_rate: int) -> object:
    """Return second-order sections for one of the IIR families."""
    if not ORDERS[0] <= spec.order <= ORDERS[1]:
        low, high = ORDERS
        raise InputError(f"An order of {spec.order} is not allowed; give {low} to {high}.")
    common = {"Wn": spec.cutoff_hz, "btype": "low", "output": "sos", "fs": sample_rate}
    if spec.family == "butter":
        return signal.butter(spec.order, **common)
    if spec.family == "cheby1":
        return signal.cheby1(spec.order, RIPPLE_DB, **common)
    if spec.family == "ellip":
        return signal.ellip(spec.order, RIPPLE_DB, STOPBAND_DB, **common)
    return signal.bessel(spec.order, norm="mag", **common)
