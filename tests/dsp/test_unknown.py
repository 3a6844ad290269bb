"""Bins that were cut off are marked apart from silent ones."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.dsp.unknown import UNKNOWN, UnknownBins


@pytest.fixture(scope="module")
def unknown() -> UnknownBins:
    return UnknownBins(LogMel(MelConfig()))


def cutoffs(*hz: float) -> torch.Tensor:
    return torch.tensor(hz, dtype=torch.float64)


def test_bins_above_a_frames_cutoff_are_marked_and_no_other(unknown):
    loud = torch.full((3, 256), -4.0)
    marked = unknown.mark(loud, cutoffs(4_000, 12_000, 20_000)) == UNKNOWN
    centres = bin_centres_hz(unknown.mel)
    for row, hz in ((0, 4_000), (1, 12_000)):
        assert centres[marked[row]].min() > hz
        assert centres[~marked[row]].max() < 1.05 * hz
    assert not marked[2].any()


def test_the_mark_lies_below_everything_a_recording_reads_as(unknown):
    assert LogMel(MelConfig())(torch.zeros(1, 48_000)).min() > UNKNOWN


def test_empty_bins_of_a_sounding_narrow_frame_are_holes(unknown):
    frames = torch.full((3, 256), -4.0)
    frames[:, 150:160] = LOG_FLOOR
    frames[1] = LOG_FLOOR  # a pause has no holes
    above, holes = unknown.find(frames, cutoffs(8_000, 8_000, 24_000))
    assert holes[0].nonzero()[:, 0].tolist() == list(range(150, 160))
    assert not holes[1].any()
    assert not holes[2].any()  # a full band that is silent there is known to be silent
    assert not (above & holes).any()


def test_channels_are_marked_alike(unknown, randn):
    frames = randn(2, 5, 256) - 4
    both = unknown.mark(frames, cutoffs(*[6_000.0] * 5))
    for channel in range(2):
        assert torch.equal(both[channel], unknown.mark(frames[channel], cutoffs(*[6_000.0] * 5)))


def test_bin_centres_lie_within_their_filters():
    mel = LogMel(MelConfig())
    spectrum = torch.linspace(0, 24_000, 1025)
    peaks = spectrum[mel.basis.argmax(0)]
    wide = mel.basis.sum(0) > 0
    assert (peaks - bin_centres_hz(mel))[wide].abs().max() < 24_000 / 1024
