"""The random history of an album: mixed, played at another speed, equalised, then degraded.

Everything is drawn from one generator and holds for the whole album. Speed, equalisation and a band
edge of its own belong to the recording and change the target too; the degradation changes only the
input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.signal import firwin2
from torch import Tensor

from lily.audio.resample import resample
from lily.bandwidth.meter import BandwidthMeter
from lily.config.presets import MelConfig
from lily.config.training import TrainingConfig
from lily.dsp.codec import CodecSpec
from lily.dsp.degrade import LowpassSpec, apply_lowpass, degrade, random_degradation
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.mel import LogMel

LEVEL_PEAK = 0.5  # of the degraded recording: the engine does the same with its input
LEVEL_SLACK_DB = 3.0  # a peak is one sample: the level the networks meet varies by as much
PART_DB = 9.0  # how much quieter than the loudest a part of an album may be
MIXED_DB = 10.0  # how far the two layers of a mixed album differ in power at most
# Rates a recording is taken to have: played at 48 kHz it is up to 9 % slower or faster.
SPEEDS_HZ = (44_000, 46_000, 48_000, 48_000, 48_000, 48_000, 50_000, 52_000)
EFFECT_SPEEDS_HZ = (36_000, 40_000, 44_000, 48_000, 48_000, 52_000, 56_000, 62_000)
EQUALISER_HZ = (0, 100, 300, 1_000, 3_000, 6_000, 12_000, 24_000)
EQUALISER_DB = 1.5  # standard deviation at each of these, around the tilt
TILT_DB = 1.5  # standard deviation of the tilt, in dB an octave above 1 kHz
EQUALISER_TAPS = 1025
OWN_BANDWIDTH_HZ = (12_000.0, 20_000.0)
CHOSEN_CUTOFF_HZ = (5_000.0, 16_000.0)  # what a user sets by hand below a codec's holes
DETECTED = (0.96, 1.02)  # the detector is right within a few per cent; learn no more than that


@dataclass(frozen=True)
class Heard:
    """An album as it was and as it arrived: log-mels (L, M), and where its band ends."""

    target: Tensor
    low: Tensor
    cutoff_hz: float
    speed: float  # by which its frequencies rose
    altered: bool  # the original was equalised or got a band edge of its own


def live_through(
    parts: Sequence[Tensor],
    under: Sequence[Tensor],
    config: TrainingConfig,
    mel: MelConfig,
    generator: torch.Generator,
    *,
    effect: bool = False,
) -> Heard:
    """Join recordings (1, T) of a source into an album, mix those ``under`` with it, degrade it."""
    rate = mel.sample_rate
    speeds = EFFECT_SPEEDS_HZ if effect else SPEEDS_HZ
    speed = speeds[int(torch.randint(len(speeds), (), generator=generator))]
    original = _joined(parts, generator)
    if under:
        original = _mixed(original, _joined(under, generator), generator)
    original = original if speed == rate else resample(original, speed, rate)
    original, altered = _altered(original, config, generator, rate)
    low, cutoff = _arrived(original, config, generator, rate)
    slack = LEVEL_SLACK_DB * float(torch.rand((), generator=generator))
    gain = LEVEL_PEAK / float(low.abs().max().clamp(min=1e-5)) * 10 ** (-slack / 20)
    front_end = LogMel(mel)
    log_mels = front_end(original * gain)[0], front_end(low * gain)[0]
    return Heard(*log_mels, cutoff, speed / rate, altered)


def _joined(parts: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    joined = []
    for part in parts:
        quieter = PART_DB * float(torch.rand((), generator=generator))
        joined.append(part / part.abs().max().clamp(min=1e-5) * 10 ** (-quieter / 20))
    return torch.cat(joined, dim=-1)


def _mixed(x: Tensor, under: Tensor, generator: torch.Generator) -> Tensor:
    """Add ``under`` (1, T'), repeated to the length of x (1, T), at a random level."""
    under = under.repeat(1, -(-x.shape[-1] // under.shape[-1]))[:, : x.shape[-1]]
    level = MIXED_DB * (2 * float(torch.rand((), generator=generator)) - 1)
    powers = (s.square().mean().clamp(min=1e-10) for s in (x, under))
    gain = (next(powers) / next(powers)).sqrt() * 10 ** (level / 20)
    return x + gain * under


def _altered(
    x: Tensor, config: TrainingConfig, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, bool]:
    """Tilt some albums, let some end early, and say whether either was done."""
    chance = torch.rand(3, generator=generator).tolist()
    curve = torch.randn(len(EQUALISER_HZ), generator=generator) * EQUALISER_DB
    tilt = TILT_DB * float(torch.randn((), generator=generator))
    if chance[0] < config.equalised:
        octaves = (torch.tensor(EQUALISER_HZ).clamp(min=1_000) / 1_000).log2()
        gains = (10 ** ((curve + tilt * octaves) / 20)).tolist()
        kernel = firwin2(EQUALISER_TAPS, EQUALISER_HZ, gains, fs=sample_rate)
        x = filter_whole(x, torch.from_numpy(kernel))
    if chance[1] < config.own_bandwidth:
        low, high = OWN_BANDWIDTH_HZ
        x = apply_lowpass(
            x, LowpassSpec("resample", 2, low + chance[2] * (high - low)), sample_rate
        )
    return x, chance[0] < config.equalised or chance[1] < config.own_bandwidth


def _arrived(
    x: Tensor, config: TrainingConfig, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, float]:
    """The degraded album through the engine's own low-pass, and the cutoff it was taken at."""
    degradation = random_degradation(generator, config.cutoff_hz, config.codecs)
    low = degrade(x, degradation, sample_rate, generator)
    places = torch.rand(2, generator=generator).tolist()
    if isinstance(degradation.how, CodecSpec):
        meter = BandwidthMeter(sample_rate)
        meter.push(low)
        found = meter.result()
        cutoff = found.cutoff_hz
        if found.full or places[1] < 0.3:
            least, most = CHOSEN_CUTOFF_HZ
            cutoff = min(cutoff, least + places[0] * (most - least))
    else:
        cutoff = degradation.how.cutoff_hz
        cutoff *= DETECTED[0] + places[0] * (DETECTED[1] - DETECTED[0])
    return filter_whole(low, band_limit_kernel(cutoff, sample_rate)), cutoff
