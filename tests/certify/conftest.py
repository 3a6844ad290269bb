"""One output of a tiny model, to inspect and to tamper with."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_engine import band_limited, make_folder, write

from lily.certify.paths import metadata_path
from lily.checkpoints.folder_config import read_folder_config
from lily.inference.engine import InferenceEngine

CUTOFF = 6_000.0


@pytest.fixture(scope="session")
def engine(tmp_path_factory) -> InferenceEngine:
    folder = make_folder(tmp_path_factory.mktemp("model"))
    return InferenceEngine(read_folder_config(folder), device="cpu")


@pytest.fixture(scope="session")
def made(engine, tmp_path_factory) -> tuple[Path, Path]:
    """A stereo recording at 44.1 kHz that ends at 6 kHz, and the output made of it."""
    folder = tmp_path_factory.mktemp("made")
    samples = band_limited(3.0, CUTOFF, channels=2) / 20  # quiet enough for 24 bits
    samples[1] = 0.5 * samples[0] + samples[1]
    recording = write(folder / "a.wav", samples[:, : 3 * 44_100], 44_100)
    engine.run_inference(recording, folder / "out", seed=3, steps=2)
    return recording, folder / "out" / "a.wav"


@pytest.fixture
def copy(made, tmp_path) -> tuple[Path, Path]:
    """The same output in a folder of its own."""
    recording, output = made
    for path in (output, metadata_path(output)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return recording, tmp_path / output.name
