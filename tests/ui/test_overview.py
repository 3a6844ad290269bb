"""Laws of the overview: peaks lie where they are, and a tone where its frequency is."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import soundfile
from PIL import Image

from lily.ui.overview import COLUMNS, ROWS, PeakMeter, overview


def test_a_tone_is_a_line_at_its_frequency_and_a_click_a_peak_at_its_time(tmp_path):
    time = np.arange(2 * 48_000) / 48_000
    samples = 0.1 * np.sin(2 * np.pi * 6_000 * time)
    samples[72_000] = -0.8
    soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype="PCM_24")
    made = overview(tmp_path / "a.wav", 2.0, tmp_path / "a.webp")
    levels = np.asarray(Image.open(made.spectrum).convert("L"))
    assert levels.shape[0] == ROWS
    quiet = levels[:, : levels.shape[1] // 2].mean(axis=1)
    assert abs(int(quiet.argmax()) - (ROWS - 1) * (1 - 6_000 / 24_000)) <= 2
    level_db = 140 * quiet.max() / 255 - 140
    assert level_db == pytest.approx(-20, abs=4)
    peaks = np.frombuffer(base64.b64decode(made.peaks), np.uint8)
    assert len(peaks) == COLUMNS and peaks.argmax() == COLUMNS * 3 // 4
    assert peaks.max() == 204 and np.median(peaks) == pytest.approx(25.5, abs=1)


def test_peaks_do_not_depend_on_the_blocks():
    samples = np.random.default_rng(0).normal(0, 0.2, (2, 10_007)).astype(np.float32)
    told = set()
    for size in (1, 999, 10_007):
        meter = PeakMeter(samples.shape[1])
        for a in range(0, 10_007, size):
            meter.push(samples[:, a : a + size])
        told.add(meter.bytes())
    assert len(told) == 1


def test_fewer_samples_than_columns_are_no_trouble():
    meter = PeakMeter(5)
    meter.push(np.ones((1, 5), np.float32))
    assert sum(byte > 0 for byte in meter.bytes()) == 5
