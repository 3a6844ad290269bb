"""Laws of references: a delay is found to the sample, and another recording is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.errors import InputError
from lily.evaluation.reference import align


@pytest.fixture
def original(randn) -> torch.Tensor:
    """Four seconds of two channels, the kind of noise that music is: louder below."""
    noise = randn(2, 4 * 48_000) * 0.02
    return noise + filter_whole(randn(2, 4 * 48_000) * 0.3, lowpass_kernel(3000, 3500, 48_000))


@pytest.fixture
def left(original) -> torch.Tensor:
    """What is left of it below 4 kHz."""
    return filter_whole(original, lowpass_kernel(3900, 4100, 48_000))


@pytest.fixture
def recording(left, tmp_path) -> Path:
    """The file of it."""
    return write(tmp_path / "recording.wav", left)


def write(path: Path, samples: torch.Tensor, rate: int = 48_000) -> Path:
    soundfile.write(path, samples.T.numpy(), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("delay", [0, 1, -1, 1105, -4800, 96_000])
def test_a_delay_is_found_to_the_sample(original, recording, tmp_path, delay):
    late = torch.nn.functional.pad(original, (max(0, delay), 0))[:, max(0, -delay) :]
    aligned = align(write(tmp_path / "r.wav", late), recording)
    assert aligned.delay == delay / 48_000
    assert aligned.samples.shape == original.shape
    inside = slice(aligned.start, aligned.stop)
    assert torch.equal(aligned.samples[:, inside], original[:, inside])


def test_another_rate_is_resampled_and_aligned(left, recording, tmp_path):
    path = write(tmp_path / "r.wav", left[:1, ::2].contiguous(), 24_000)
    aligned = align(path, recording)
    assert abs(aligned.delay) < 2 / 48_000
    assert aligned.samples.shape == left.shape


def test_distances_are_zero_to_itself_and_lie_above_the_cutoff(original, left, recording, tmp_path):
    aligned = align(write(tmp_path / "r.wav", original), recording)
    assert aligned.distances(original, 4000.0).lsd == 0.0
    far = aligned.distances(left, 4000.0)
    assert far.lsd_hf > 10 * far.lsd_lf


def test_another_recording_is_refused(recording, randn, tmp_path):
    path = write(tmp_path / "other.wav", randn(1, 4 * 48_000) * 0.1)
    with pytest.raises(InputError, match=r"other.wav is not the same recording"):
        align(path, recording)


def test_half_a_reference_is_refused_with_the_lengths(original, recording, tmp_path):
    path = write(tmp_path / "half.wav", original[:, : 2 * 48_000])
    with pytest.raises(InputError, match=r"covers 2.0 s of the recording's 4.0 s"):
        align(path, recording)


def test_a_recording_too_long_to_hold_is_refused(recording, tmp_path, monkeypatch):
    monkeypatch.setattr("lily.evaluation.reference.LONGEST", 3.0)
    with pytest.raises(InputError, match=r"recording.wav is longer than 0.05 min"):
        align(recording, recording)


def test_silence_is_not_the_same_recording(recording, tmp_path):
    with pytest.raises(InputError, match="not the same"):
        align(write(tmp_path / "s.wav", torch.zeros(1, 4 * 48_000)), recording)


def test_mono_goes_with_any_channels_and_other_channels_are_refused(original, left, tmp_path):
    stereo = original[:1].expand(2, -1) * torch.tensor([[0.5], [1.0]])
    mono_file = write(tmp_path / "mono.wav", original[:1])
    stereo_file = write(tmp_path / "stereo.wav", stereo)
    assert align(mono_file, stereo_file).samples.shape == stereo.shape
    assert torch.allclose(align(stereo_file, mono_file).samples, 0.75 * original[:1])
    three = write(tmp_path / "three.wav", original[:1].expand(3, -1))
    with pytest.raises(InputError, match="has 3 channels and stereo.wav 2"):
        align(three, stereo_file)


@pytest.mark.parametrize(
    ("of_reference", "of_recording"),
    [
        ((1, -1), (1, -1)),
        ((1, 1), (1, -1)),
        ((1, -0.9), (1, -0.9)),
        ((1, -1), (1,)),
        ((1,), (1, -1)),
        ((-1,), (1,)),
    ],
)
def test_opposite_polarity_hides_no_recording(original, tmp_path, of_reference, of_recording):
    def channels(gains) -> torch.Tensor:
        return torch.tensor(gains, dtype=torch.float32)[:, None] * original[:1]

    narrow = filter_whole(channels(of_recording), lowpass_kernel(3900, 4100, 48_000))
    late = torch.nn.functional.pad(channels(of_reference), (700, 0))
    recording = write(tmp_path / "n.wav", narrow)
    aligned = align(write(tmp_path / "r.wav", late), recording)
    assert aligned.delay == 700 / 48_000
    assert aligned.samples.shape == narrow.shape
    inside = slice(aligned.start, aligned.stop)
    assert (aligned.samples.abs()[:, inside].amax(-1) > 0.1).all()
    assert aligned.distances(channels(of_recording), 4000.0).lsd < 0.1
    assert aligned.distances(narrow, 4000.0).lsd_hf > 1.0


def test_distances_are_the_means_of_the_channels(original, left, recording, tmp_path):
    aligned = align(write(tmp_path / "r.wav", original), recording)
    half = torch.stack([original[0], left[1]])  # the first channel is right, the second is not
    both, none = aligned.distances(left, 4000.0), aligned.distances(half, 4000.0)
    assert 0.3 * both.lsd_hf < none.lsd_hf < 0.7 * both.lsd_hf
