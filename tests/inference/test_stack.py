"""A reader of a traceback meets few frames: at most 8 of Lily's from ``stream`` to a network."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from test_engine import band_limited, make_folder, write

import lily
from lily.checkpoints.folder_config import read_folder_config
from lily.inference.engine import InferenceEngine
from lily.inference.options import UpsampleOptions
from lily.inference.vocode import StreamingVocoder
from lily.model.latent_diffusion import LatentDiffusion

PACKAGE = str(Path(lily.__file__).parent)
MOST = 8


@pytest.mark.parametrize(
    ("owner", "method"), [(StreamingVocoder, "_block"), (LatentDiffusion, "predict_v")]
)
def test_a_network_is_few_frames_below_stream(tmp_path, monkeypatch, owner, method):
    engine = InferenceEngine(read_folder_config(make_folder(tmp_path / "model")), "cpu")
    path = write(tmp_path / "a.wav", band_limited(6.0, 4000.0))
    stacks, call = [], getattr(owner, method)

    def spy(self, *arguments, **options):
        frames = [f for f in inspect.stack()[1:] if f.filename.startswith(PACKAGE)]
        stacks.append([f"{Path(f.filename).name}:{f.function}" for f in frames])
        return call(self, *arguments, **options)

    monkeypatch.setattr(owner, method, spy)
    options = UpsampleOptions(seed=1, steps=2, guidance=2.0, cutoff_hz=4000.0)
    list(engine.stream(path, tmp_path / "o", options))
    assert stacks and all(stack[-1] == "engine.py:stream" for stack in stacks)
    deepest = max(stacks, key=len)
    assert len(deepest) <= MOST, " < ".join(deepest)
