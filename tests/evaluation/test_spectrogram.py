"""Laws of the spectrogram: levels are absolute, frequencies true, pictures of one size."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from PIL import Image

from lily.evaluation.spectrogram import (
    COLUMNS,
    FLOOR_DB,
    Picture,
    analyse,
    picture_of,
    save_difference,
    save_pair,
)


def tone(sample_rate: int, hz: float, seconds: float, level: float = 1.0) -> np.ndarray:
    return (
        level * np.sin(2 * np.pi * hz * np.arange(int(seconds * sample_rate)) / sample_rate)[None]
    )


def in_blocks(samples: np.ndarray, size: int):
    return (samples[:, i : i + size] for i in range(0, samples.shape[1], size))


@pytest.mark.parametrize("sample_rate", [8000, 11_025, 44_100, 48_000, 192_000])
def test_a_full_scale_sine_reads_zero_db_at_its_frequency(sample_rate):
    picture = analyse([tone(sample_rate, 1000.0, 1.0)], sample_rate, 1.0)
    middle = picture.levels_db[:, picture.levels_db.shape[1] // 2]
    hz = np.linspace(0, picture.top_hz, len(middle))[middle.argmax()]
    assert hz == pytest.approx(1000.0, abs=30)
    assert middle.max() == pytest.approx(0.0, abs=1.5)


def test_the_picture_does_not_depend_on_the_blocks():
    samples = np.random.default_rng(0).normal(size=(2, 50_000)).astype(np.float32)
    whole = analyse([samples], 16_000, 50_000 / 16_000)
    for size in (160, 4096, 49_999):
        parts = analyse(in_blocks(samples, size), 16_000, 50_000 / 16_000)
        np.testing.assert_allclose(parts.levels_db, whole.levels_db, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.001, 0.5, 30.0, 300.0])
def test_columns_are_bounded_whatever_the_length(seconds):
    samples = np.zeros((1, int(8000 * seconds)), dtype=np.float32)
    picture = analyse(in_blocks(samples, 65_536), 8000, seconds)
    assert 1 <= picture.levels_db.shape[1] <= COLUMNS + 1
    assert picture.levels_db.max() == pytest.approx(FLOOR_DB)


def test_a_late_sound_is_drawn_late():
    samples = np.zeros((1, 80_000), dtype=np.float32)
    samples[:, 60_000:] = tone(8000, 500.0, 2.5)
    loud = analyse(in_blocks(samples, 1000), 8000, 10.0).levels_db.max(axis=0) > -20
    assert loud.argmax() / len(loud) == pytest.approx(0.75, abs=0.02)


@pytest.fixture
def pictures(tmp_path):
    """The pictures of a file of 8 kHz and of what might be made of it."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(8000, 440.0, 3.0, 0.5).T, 8000)
    both = tone(48_000, 440.0, 3.0, 0.5) + tone(48_000, 9000.0, 3.0, 0.01)
    return picture_of(path, 3.0), analyse([both], 48_000, 3.0)


def test_before_and_after_are_one_size(pictures, tmp_path):
    before, after = pictures
    paths = tmp_path / "1.png", tmp_path / "2.png"
    save_pair((before, "before"), (after, "after"), 4000.0, paths)
    save_difference(after, after, 4000.0, tmp_path / "3.png")
    sizes = {Image.open(path).size for path in (*paths, tmp_path / "3.png")}
    assert len(sizes) == 1


def test_a_difference_of_nothing_has_one_colour_where_a_louder_one_has_two(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 144_000)).astype(np.float32)
    after = analyse([noise], 48_000, 3.0)
    louder = Picture(after.levels_db.copy(), after.seconds, after.top_hz)
    louder.levels_db[500:] += 12
    colours = []
    for second in (after, louder):
        image = Image.open(save_difference(after, second, 4000.0, tmp_path / "d.png"))
        inside = np.asarray(image.convert("RGB"))[150:480:20, 150:700:20].reshape(-1, 3)
        colours.append(len({tuple(pixel) for pixel in inside}))
    assert colours[1] > colours[0]
