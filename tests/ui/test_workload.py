"""What a request has the U-Net do follows its steps, its guidance and the times guidance acts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import soundfile
import torch

from lily.config.inference import InferenceConfig
from lily.config.presets import load_config
from lily.config.sections import build
from lily.ui.request import Request
from lily.ui.workload import workload


@pytest.mark.parametrize(
    ("guidance", "times", "evaluations"),
    [(1.0, (0, 1000), 8), (3.5, (0, 1000), 16), (3.5, (250, 750), 12), (3.5, (0, 0), 8)],
)
def test_a_guided_evaluation_counts_twice(tmp_path, guidance, times, evaluations):
    path = tmp_path / "a.wav"
    soundfile.write(path, torch.zeros(800).numpy(), 8_000)
    bounds = build(InferenceConfig, load_config("tiny")["inference"], "inference")
    asked = Request(path, "tiny", steps=8, guidance=guidance)
    made = workload(asked, "tiny", replace(bounds, guided=times), encoder=False, loads=False)
    assert made is not None and made.evaluations == evaluations
