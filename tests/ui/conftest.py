"""Recordings from seeds and a shelf with the fake engine, for every test of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import FakeEngine, fake_shelf, write_recording

from lily.ui.shelf import EngineShelf


@pytest.fixture
def engine() -> FakeEngine:
    """The engine the shelf hands out."""
    return FakeEngine()


@pytest.fixture
def shelf(engine: FakeEngine) -> EngineShelf:
    """Two presets, both served by the fake engine."""
    return fake_shelf(engine)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Twelve seconds at 8 kHz, mono: three chunks."""
    return write_recording(tmp_path / "speech.wav", 8_000, 1, 12.0)


@pytest.fixture
def full_band(tmp_path: Path) -> Path:
    """Two seconds at 48 kHz, which the fake engine takes for full band."""
    return write_recording(tmp_path / "full.wav", 48_000, 2, 2.0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """As long as ``recording``, but noise."""
    noise = np.random.default_rng(3).normal(0, 0.1, 12 * 48_000)
    soundfile.write(tmp_path / "other.wav", noise, 48_000)
    return tmp_path / "other.wav"


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    """A text that claims to be a WAV."""
    path = tmp_path / "bad.wav"
    path.write_text("this is not audio")
    return path
