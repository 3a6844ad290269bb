"""A tiny model and a tree of short recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_engine import band_limited, make_folder, write

from lily.checkpoints.folder_config import read_folder_config
from lily.inference.engine import InferenceEngine


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def engine(model) -> InferenceEngine:
    return InferenceEngine(read_folder_config(model), device="cpu")


@pytest.fixture
def tapes(tmp_path) -> Path:
    """Four short recordings in a tree."""
    folder = tmp_path / "tapes"
    for n, name in enumerate(("one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "FLOAT" if name.endswith(".wav") else "PCM_24"
        write(path, band_limited(0.3 + 0.2 * n, 4000.0, seed=n), subtype=kind)
    return folder
