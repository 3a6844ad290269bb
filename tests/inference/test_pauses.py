"""Laws of the bundled model's highs: silence stays silent, pauses have no more than their share.

AudioSR's pauses come back as hiss, 10 to 28 dB too loud.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from lily import InferenceEngine, load_config
from lily.audio.read import read_audio
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel

RATE = 48_000
CUTOFF = 6_000.0
FRAME = 2_400  # samples: 50 ms
EXCESS_DB = 10.0  # measured: 6 at -30 and -50 dB


@pytest.fixture(scope="module")
def engine() -> InferenceEngine:
    return InferenceEngine(load_config("lily-mini"), device="cpu")


def levels(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Level in dB (N,) of every frame of a signal (1, T) in a band."""
    band = filter_whole(x, kernel)[0]
    frames = band[: len(band) // FRAME * FRAME].view(-1, FRAME)
    return 10 * torch.log10(frames.square().mean(dim=1) + 1e-20)


def filled(engine: InferenceEngine, folder: Path, pause_db: float | None):
    """Levels below the cutoff and of the generated band: while it sounds, and in the pauses."""
    noise = 0.1 * torch.randn(1, 6 * RATE, generator=torch.Generator().manual_seed(0))
    recording = filter_whole(noise, lowpass_kernel(0.97 * CUTOFF, 1.03 * CUTOFF, RATE))
    phase = torch.arange(6 * RATE) / RATE % 2.0
    recording *= torch.where(phase < 1.2, 1.0, 0.0 if pause_db is None else 10 ** (pause_db / 20))
    path = folder / "a.wav"
    soundfile.write(path, recording.T.numpy(), RATE, subtype="FLOAT")
    result = engine.run_inference(path, folder / "o", seed=1, cutoff_hz=CUTOFF)
    made = levels(read_audio(result.output), highpass_kernel(1.05 * CUTOFF, 1.15 * CUTOFF, RATE))
    known = levels(recording, lowpass_kernel(0.9 * CUTOFF, CUTOFF, RATE))
    phase = torch.arange(len(made)) * FRAME / RATE % 2.0
    sounding, pause = (phase > 0.2) & (phase < 1.0), (phase > 1.4) & (phase < 1.85)
    return [(part[sounding].mean(), part[pause].mean()) for part in (known, made)]


def test_silence_stays_silent(engine, tmp_path) -> None:
    _, (sounding, pause) = filled(engine, tmp_path, None)
    assert sounding > -60
    assert pause < -90


@pytest.mark.parametrize("pause_db", [-50.0, -30.0])
def test_the_highs_fall_with_the_recording(engine, tmp_path, pause_db) -> None:
    (known, known_pause), (made, made_pause) = filled(engine, tmp_path, pause_db)
    assert known_pause == pytest.approx(float(known) + pause_db, abs=1.0)
    assert made_pause - made < pause_db + EXCESS_DB
