"""What an album lived through before anybody heard it: edited, equalised, band-limited, degraded.

Everything is drawn from one generator. What belongs to the recording (speed, equalisation, a
bandwidth of its own) changes the target too; what took the highs away changes only the input. All
of it holds for the whole album: the context is where it can be found out.
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
# Rates a recording is taken to have had: played at 48 kHz it is up to 9 % slower or faster.
SPEEDS_HZ = (44_000, 46_000, 48_000, 48_000, 48_000, 48_000, 50_000, 52_000)
EQUALISER_HZ = (0, 100, 300, 1_000, 3_000, 6_000, 12_000, 24_000)
EQUALISER_DB = 4.0  # standard deviation at each of these
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


def live_through(
    parts: Sequence[Tensor], config: TrainingConfig, mel: MelConfig, generator: torch.Generator
) -> Heard:
    """Join recordings (1, T) of a source into an album and degrade it."""
    rate = mel.sample_rate
    original = _joined(parts, generator)
    original = _equalised(original, config, generator, rate)
    low, cutoff = _arrived(original, config, generator, rate)
    slack = LEVEL_SLACK_DB * float(torch.rand((), generator=generator))
    gain = LEVEL_PEAK / float(low.abs().max().clamp(min=1e-5)) * 10 ** (-slack / 20)
    front_end = LogMel(mel)
    return Heard(front_end(original * gain)[0], front_end(low * gain)[0], cutoff)


def _joined(parts: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    speed = SPEEDS_HZ[int(torch.randint(len(SPEEDS_HZ), (), generator=generator))]
    joined = []
    for part in parts:
        quieter = PART_DB * float(torch.rand((), generator=generator))
        part = part / part.abs().max().clamp(min=1e-5) * 10 ** (-quieter / 20)
        joined.append(part if speed == 48_000 else resample(part, speed, 48_000))
    return torch.cat(joined, dim=-1)


def _equalised(
    x: Tensor, config: TrainingConfig, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """Half of the albums sound as if somebody had turned the knobs; some end early themselves."""
    chance = torch.rand(3, generator=generator).tolist()
    curve = torch.randn(len(EQUALISER_HZ), generator=generator) * EQUALISER_DB
    if chance[0] < config.equalised:
        gains = (10 ** (curve / 20)).tolist()
        kernel = firwin2(EQUALISER_TAPS, EQUALISER_HZ, gains, fs=sample_rate)
        x = filter_whole(x, torch.from_numpy(kernel))
    if chance[1] < config.own_bandwidth:
        low, high = OWN_BANDWIDTH_HZ
        x = apply_lowpass(
            x, LowpassSpec("resample", 2, low + chance[2] * (high - low)), sample_rate
        )
    return x


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
