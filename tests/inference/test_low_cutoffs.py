"""Laws of the bundled model at low cutoffs: no output is much louder than its input.

A tone just below a cutoff looks like a loud band beside it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from lily import InferenceEngine, load_config
from lily.audio.read import read_audio

RATE = 48_000
TIME = torch.arange(RATE) / RATE
PLACES = (0.88, 0.96)  # x cutoff: below the crossover and in it


@pytest.fixture(scope="module")
def engine() -> InferenceEngine:
    return InferenceEngine(load_config("lily-mini"), device="cpu")


def upsampled(engine: InferenceEngine, folder: Path, samples: torch.Tensor, cutoff_hz: float):
    """The result of a recording (T,) and its samples (1, T)."""
    soundfile.write(folder / "a.wav", samples.numpy(), RATE, subtype="FLOAT")
    result = engine.run_inference(folder / "a.wav", folder / "o", seed=1, cutoff_hz=cutoff_hz)
    return result, read_audio(result.output)


@pytest.mark.parametrize("cutoff_hz", [500.0, 700.0, 1_000.0, 1_500.0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("wave", ["sine", "square"])
def test_a_loud_tone_beside_the_cutoff_stays_about_as_loud(
    engine, tmp_path, wave, place, cutoff_hz
):
    tone = torch.sin(2 * torch.pi * place * cutoff_hz * TIME + 0.01)
    _, made = upsampled(engine, tmp_path, tone.sign() if wave == "square" else tone, cutoff_hz)
    # The lowest partial of a square wave peaks at 1.27. It was up to 9.
    assert made.abs().max() < (2.1 if wave == "square" else 1.7)


@pytest.mark.slow
@pytest.mark.parametrize("cutoff_hz", [2_000.0, 4_000.0, 8_000.0])
@pytest.mark.parametrize("place", (0.95, 0.99))
def test_a_loud_tone_beside_a_cutoff_of_training_is_bounded(engine, tmp_path, place, cutoff_hz):
    _, made = upsampled(
        engine, tmp_path, torch.sin(2 * torch.pi * place * cutoff_hz * TIME + 0.01), cutoff_hz
    )
    assert made.abs().max() < 2.7  # was up to 4.6; the tone begins with a step, which has highs


@pytest.mark.parametrize("cutoff_hz", [500.0, 1_000.0])
@pytest.mark.parametrize(
    "samples",
    [
        torch.sin(2 * torch.pi * 440 * TIME)[: RATE // 50],
        (torch.arange(RATE) % 9_000 == 4_500).float(),
        torch.zeros(RATE),
    ],
    ids=["20 ms", "clicks", "silence"],
)
def test_what_is_short_or_silent_is_no_louder_than_the_recording(
    engine, tmp_path, samples, cutoff_hz
):
    _, made = upsampled(engine, tmp_path, samples, cutoff_hz)
    assert made.abs().max() <= 1.1 * samples.abs().max()
