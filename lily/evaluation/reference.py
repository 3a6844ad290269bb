"""Bring a reference, the full-band original of a recording, in step with it, or say why it cannot.

Both are compared at 48 kHz, channel by channel, since a mix of channels of opposite polarity would
be silence. The delay is where the magnitude of their cross-correlation peaks; what does not
correlate, or covers too little of the recording, is another recording. Levels are left alone: the
distance is defined at the level as delivered.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace
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
        """Compare what both cover of an estimate (C, T): the means of the channels' distances."""
        stop = min(self.stop, estimate.shape[-1])  # a stopped take ends early
        pair = self.samples[:, self.start : stop], estimate[:, self.start : stop]
        whole = distances(*pair, cutoff_hz)
        if len(estimate) == 1:
            return whole
        channels = [distances(a[None], b[None], cutoff_hz) for a, b in zip(*pair, strict=True)]
        sounding = [of for of in channels if of.frames]
        return replace(_mean(sounding or channels), stereo_change=whole.stereo_change)


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
    delay, likeness = _delay(given, heard)
    if likeness < SAME:
        raise InputError(
            f"{path.name} is not the same recording (correlation {likeness:.2f} at best, at least "
            f"{SAME:g} is needed); give its full-band original, shifted by {MAX_DELAY:g} s at most."
        )
    if channels == 1:
        given = _in_phase_mean(given)
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
    """Samples by which the reference (C, T) is late, and the correlation (0 to 1) there.

    Magnitudes of the channels' correlations are added; a mono signal is compared with each channel.
    """
    reach = round(MAX_DELAY * SAMPLE_RATE)
    heard = recording[:, : round(LISTEN * SAMPLE_RATE)].double()
    length = heard.shape[-1]
    other = reference[:, : length + reach].double()
    heard = heard - heard.mean(-1, keepdim=True)
    other = other - other.mean(-1, keepdim=True)
    size = 1 << (length + other.shape[-1] + reach).bit_length()
    near = torch.zeros(2 * reach + 1, dtype=torch.float64)
    for channel in range(max(len(heard), len(other))):  # one at a time: a minute takes 100 MB
        own, against = heard[min(channel, len(heard) - 1)], other[min(channel, len(other) - 1)]
        spectrum = torch.fft.rfft(own, size).conj() * torch.fft.rfft(against, size)
        correlation = torch.fft.irfft(spectrum, size)
        near += torch.cat([correlation[-reach:], correlation[: reach + 1]]).abs()
    best = int(near.argmax()) - reach
    overlap = other[:, max(0, best) : length + best]
    power = (heard.square().sum(-1) * overlap.square().sum(-1)).sqrt().sum()
    return best, float(near[best + reach] / power.clamp(min=1e-12))


def _in_phase_mean(samples: Tensor) -> Tensor:
    """The mean (1, T) of channels (C, T), each with the polarity of the loudest."""
    loudest = samples[int(samples.square().sum(-1).argmax())]
    signs = torch.where((samples * loudest).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return (signs * samples).mean(0, keepdim=True)


def _mean(found: list[Distances]) -> Distances:
    """The mean of channels' distances; frames are counted in all of them."""
    columns = zip(*(astuple(of) for of in found), strict=True)
    values = {}
    for field, column in zip(fields(Distances), columns, strict=True):
        known = [value for value in column if value is not None]
        counted = field.name in ("frames", "quiet", "silent")
        total = sum(known)
        values[field.name] = total if counted else total / len(known) if known else None
    return Distances(**values)
