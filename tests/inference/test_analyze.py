"""What analysis says of a recording that decoding had to repair."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from made import mp3, sound, zeroed

from lily.inference.analyze import analyze, unchanged_message
from lily.inference.options import UpsampleOptions


def test_what_decoding_repaired_is_in_the_finding(tmp_path):
    header, frames = mp3(sound(4.0), 44_100)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(header + zeroed(frames, 0.5, 450))
    diagnosis = analyze(path, 48_000, UpsampleOptions()).diagnosis
    assert diagnosis.repairs
    assert diagnosis.repairs[0] in diagnosis.text
    assert tuple(diagnosis.to_dict()["repairs"]) == diagnosis.repairs


def test_a_whole_recording_needed_no_repair(tmp_path):
    path = tmp_path / "whole.wav"
    soundfile.write(path, sound(1.0), 44_100)
    assert analyze(path, 48_000, UpsampleOptions()).diagnosis.repairs == ()


@pytest.mark.parametrize(
    ("level", "cutoff_hz", "fills"),
    [(0.0, 4_000.0, False), (0.1, ((0.0, 20_000.0), (0.5, 21_000.0)), False), (0.1, 4_000.0, True)],
)
def test_a_given_cutoff_is_not_said_to_be_filled_from_where_nothing_is(
    tmp_path, level, cutoff_hz, fills
):
    path = tmp_path / "a.wav"
    soundfile.write(path, level * np.random.default_rng(0).standard_normal(48_000), 48_000)
    found = analyze(path, 48_000, UpsampleOptions(cutoff_hz=cutoff_hz))
    assert found.unchanged is not fills
    assert ("filling" in found.diagnosis.text) is fills


def noise_up_to(hz: float, rate: int, seconds: float = 2.0) -> np.ndarray:
    """Noise that falls by 3 dB an octave, as music may, and ends at a frequency."""
    length = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(length))
    places = np.fft.rfftfreq(length, 1 / rate)
    made = np.fft.irfft(np.where(places < hz, spectrum / places.clip(200) ** 0.5, 0), length)
    return 0.3 * made / np.abs(made).max()


@pytest.mark.parametrize(
    ("rate", "ends_hz", "subtype", "lost"),
    [
        (96_000, 40_000, "PCM_16", True),
        (88_200, 43_000, "PCM_24", True),
        (192_000, 30_000, "PCM_24", True),
        (96_000, 90_000, "PCM_24", True),  # up to its own Nyquist frequency
        (96_000, 22_000, "PCM_16", False),
        (96_000, 22_000, "PCM_24", False),
        (192_000, 8_000, "PCM_16", False),
        (48_000, 40_000, "PCM_24", False),
        (44_100, 40_000, "PCM_24", False),
    ],
)
def test_sound_that_48_khz_cannot_hold_is_mentioned(tmp_path, rate, ends_hz, subtype, lost):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise_up_to(ends_hz, rate), rate, subtype=subtype)
    found = analyze(path, 48_000, UpsampleOptions()).diagnosis
    assert ("above 24 kHz" in found.text) is lost
    expected = min(ends_hz, rate / 2) if lost else 0.0
    assert found.lost_hz == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("rate", [48_000, 96_000, 192_000])
def test_of_silence_nothing_is_lost(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.zeros(rate), rate, subtype="PCM_24")
    assert not analyze(tmp_path / "a.wav", 48_000, UpsampleOptions()).diagnosis.lost_hz


def test_given_cutoffs_that_leave_nothing_to_fill_are_the_reason(tmp_path):
    path = tmp_path / "narrow.wav"
    soundfile.write(path, noise_up_to(8_000.0, 48_000), 48_000)
    options = UpsampleOptions(cutoff_hz=((0.0, 20_000.0), (1.0, 21_000.0)))
    analysis = analyze(path, 48_000, options)
    said = unchanged_message(analysis, options)
    assert analysis.unchanged
    assert "The given cutoffs begin at 20.0 kHz" in said and "Give a cutoff" not in said
