"""Bring a reference, the full-band original of a recording, in step with it, or say why it cannot.

Both are looked at at 48 kHz, mixed to mono. The delay is where their cross-correlation peaks; what
does not correlate, or covers too little of the recording, is another recording. Levels are left
alone: the distance is defined at the level as delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.read import probe, read_blocks
from lily.audio.resample import Resampler
from lily.errors import InputError
from lily.evaluation.metrics import SAMPLE_RATE, Distances, distances

MAX_DELAY = 2.0  # seconds: more than any encoder adds or an editor cuts by mistake
LISTEN = 60.0  # seconds of the recording that are compared to find the delay
SAME = 0.4  # correlation: noise has 0.0, a recording and its low-passed self 0.7 and more
COVERED = 0.9  # share of the recording that the reference must reach
LONGEST = 600.0  # seconds of a recording that has a reference: both are held in memory


@dataclass(frozen=True)
class Reference:
    """The reference in step with a recording: samples (C, T), zero outside [start, stop)."""

    samples: Tensor
    start: int
    stop: int
    delay: float  # seconds by which the reference came later

    def distances(self, estimate: Tensor, cutoff_hz: float) -> Distances:
        """Compare what both cover of an estimate (C, T)."""
        stop = min(self.stop, estimate.shape[-1])  # a stopped take ends early
        return distances(
            self.samples[:, self.start : stop], estimate[:, self.start : stop], cutoff_hz
        )


def align(path: Path, recording: Path) -> Reference:
    """Read the reference and shift it onto the recording as it is at 48 kHz.

    Raises InputError if one is no audio or longer than ``LONGEST``, or if the reference is another
    recording, covers less than ``COVERED`` of this one, or has other channels: mono goes with any
    number, and any number with mono.
    """
    given, heard = _read(path), _read(recording)
    channels = heard.shape[0]
    if given.shape[0] != channels and 1 not in (given.shape[0], channels):
        raise InputError(
            f"{path.name} has {given.shape[0]} channels and {recording.name} {channels}; give a "
            "reference with as many, or a mono one."
        )
    delay, likeness = _delay(given.mean(0), heard.mean(0))
    if likeness < SAME:
        raise InputError(
            f"{path.name} is not the same recording (correlation {likeness:.2f} at best, at least "
            f"{SAME:g} is needed); give its full-band original, shifted by {MAX_DELAY:g} s at most."
        )
    if channels == 1:
        given = given.mean(0, keepdim=True)
    given = given.expand(channels, -1)
    length = heard.shape[-1]
    start, stop = max(0, -delay), min(length, given.shape[-1] - delay)
    if stop - start < COVERED * length:
        raise InputError(
            f"{path.name} covers {max(0, stop - start) / SAMPLE_RATE:.1f} s of the recording's "
            f"{length / SAMPLE_RATE:.1f} s; give a reference that covers {COVERED:.0%} of it."
        )
    samples = given.new_zeros(given.shape[0], length)
    samples[:, start:stop] = given[:, start + delay : stop + delay]
    return Reference(samples, start, stop, delay / SAMPLE_RATE)


def _read(path: Path) -> Tensor:
    """Samples (C, T) at 48 kHz of a file that is not too long."""
    rate, count, blocks = probe(path).sample_rate, 0, []
    resampler = Resampler(rate, SAMPLE_RATE)
    for block in read_blocks(path):
        count += block.shape[-1]
        if count > LONGEST * rate:
            raise InputError(
                f"{path.name} is longer than {LONGEST / 60:g} min, the most that is compared with "
                "a reference; cut it, or leave the reference out."
            )
        blocks.append(resampler.push(block))
    return torch.cat([*blocks, resampler.flush()], dim=-1)


def _delay(reference: Tensor, recording: Tensor) -> tuple[int, float]:
    """Samples (T,) by which the reference is late, and the correlation (0 to 1) there."""
    reach = round(MAX_DELAY * SAMPLE_RATE)
    heard = recording[: round(LISTEN * SAMPLE_RATE)].double()
    other = reference[: len(heard) + reach].double()
    heard, other = heard - heard.mean(), other - other.mean()
    size = 1 << (len(heard) + len(other) + reach).bit_length()
    spectrum = torch.fft.rfft(heard, size).conj() * torch.fft.rfft(other, size)
    correlation = torch.fft.irfft(spectrum, size)
    near = torch.cat([correlation[-reach:], correlation[: reach + 1]])
    best = int(near.argmax()) - reach
    overlap = other[max(0, best) : len(heard) + best]
    power = heard.square().sum() * overlap.square().sum()
    return best, float(near[best + reach] / power.sqrt().clamp(min=1e-12))
