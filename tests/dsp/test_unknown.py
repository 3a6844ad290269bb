"""Bins that were cut off are marked apart from silent ones."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.dsp.unknown import EMPTY, SOUNDING, UNKNOWN, UnknownBins


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
    holes = unknown.holes(frames, cutoffs(8_000, 8_000, 24_000))
    assert holes[0].nonzero()[:, 0].tolist() == list(range(150, 160))
    assert not holes[1].any()
    assert not holes[2].any()  # a full band that is silent there is known to be silent


# Runs of frames with one cutoff: (frames, Hz) each.
TRACKS = {
    "constant": [(40, 8_000.0)],
    "full": [(40, 24_000.0)],
    "nothing": [(40, 10.0)],
    "changes": [(13, 8_000.0), (20, 3_000.0), (7, 8_000.0)],
    "changes at the borders": [(1, 24_000.0), (38, 5_000.0), (1, 12_000.0)],
    "every frame": [(1, 1_000.0 * n) for n in range(1, 41)],
}


def track(name: str) -> torch.Tensor:
    return torch.cat([torch.full((n,), hz, dtype=torch.float64) for n, hz in TRACKS[name]])


def first_unknown_bin(unknown: UnknownBins, hz: float) -> int:
    return 256 if hz >= FULL_BAND_HZ else unknown.mel.first_bin_above(hz)


def with_empty_bins(frames: torch.Tensor) -> torch.Tensor:
    """Frames (..., 40, M) with bins that a codec emptied, and a pause."""
    frames = frames - 4
    frames[..., 5:30, 60:70] = LOG_FLOOR
    frames[..., 33:36, :] = LOG_FLOOR
    return frames


@pytest.mark.parametrize("name", TRACKS)
def test_marks_are_those_of_each_frame_alone(unknown, randn, name):
    frames, hz = with_empty_bins(randn(2, 40, 256)), track(name)
    expected = frames.clone()
    for channel in range(2):
        for place in range(40):
            frame, edge = expected[channel, place], first_unknown_bin(unknown, float(hz[place]))
            sounds = edge and frame[:edge].mean() > SOUNDING
            if sounds and edge < 256:
                frame[:edge][frame[:edge] < EMPTY] = UNKNOWN
            frame[edge:] = UNKNOWN
    before = frames.clone()
    assert torch.equal(unknown.mark(frames, hz), expected)
    assert torch.equal(frames, before)
    above = torch.stack([torch.arange(256) >= first_unknown_bin(unknown, float(f)) for f in hz])
    assert torch.equal(unknown.holes(frames, hz), (expected == UNKNOWN) & ~above)


@pytest.mark.parametrize(
    "names",
    [
        ("changes",),
        ("changes", "changes"),
        ("constant", "full"),
        ("changes", "changes at the borders", "nothing"),
        ("every frame", "constant"),
    ],
)
def test_a_mean_is_that_of_the_channels_that_know_the_bin(unknown, randn, names):
    log_mels, tracks = randn(len(names), 40, 256) - 4, torch.stack([track(name) for name in names])
    read = unknown.known_mean(log_mels, tracks)
    for place in range(40):
        edges = [first_unknown_bin(unknown, float(hz)) for hz in tracks[:, place]]
        known = torch.arange(256) < torch.tensor(edges)[:, None]
        known |= ~known.any(0)
        power = ((2 * log_mels[:, place]).exp() * known).sum(0) / known.sum(0)
        torch.testing.assert_close(read[place], power.log() / 2, atol=1e-5, rtol=0)


def test_no_frames_are_marked_as_no_frames(unknown):
    assert unknown.mark(torch.zeros(0, 256), cutoffs()).shape == (0, 256)
    two = unknown.known_mean(torch.zeros(2, 0, 256), torch.zeros(2, 0, dtype=torch.float64))
    assert two.shape == (0, 256)


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
