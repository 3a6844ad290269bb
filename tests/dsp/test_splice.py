"""Laws of splicing: the recording below the crossover, the generated signal above the cutoff."""

import math

import pytest
import torch

from lily.dsp.cutoffs import Cutoffs
from lily.dsp.splice import Splicer
from lily.errors import InputError

RATE = 48_000


def noise(seed: int, length: int = 60_000, channels: int = 2) -> torch.Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def splice(
    recording: torch.Tensor, generated: torch.Tensor, cutoff_hz: float, block: int = 10_000
) -> torch.Tensor:
    splicer = Splicer(Cutoffs.constant(cutoff_hz), RATE, recording.shape[0])
    pairs = zip(recording.split(block, dim=-1), generated.split(block, dim=-1), strict=True)
    return torch.cat([splicer.push(a, b) for a, b in pairs] + [splicer.flush()], dim=-1)


def spectrum_db(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies (F,) and levels (C, F) of the middle of x, 0 dB at the loudest."""
    middle = x[:, 10_000:50_000].double()
    power = torch.fft.rfft(middle * torch.kaiser_window(40_000, False, 16.0)).abs().square()
    return torch.linspace(0, RATE / 2, power.shape[-1]), 10 * torch.log10(power / power.max())


def test_a_generator_that_returns_its_input_changes_nothing() -> None:
    x = noise(0)
    assert torch.equal(splice(x, x, 4_000), x)


@pytest.mark.parametrize("cutoff_hz", [1_000, 4_000, 8_000, 15_000, 22_050])
def test_the_recording_survives_below_and_the_generated_signal_above(cutoff_hz: float) -> None:
    recording, generated = noise(1), noise(2)
    out = splice(recording, generated, cutoff_hz)
    frequency, change = spectrum_db(out - recording)
    assert change[:, frequency < 0.9 * cutoff_hz - 20].max() < -80
    frequency, error = spectrum_db(out - generated)
    assert error[:, frequency > cutoff_hz + 20].max() < -80


def test_a_tone_below_survives_a_generator_of_silence() -> None:
    time = torch.arange(60_000, dtype=torch.float64) / RATE
    tone = torch.sin(2 * math.pi * 3_000 * time)[None].float()
    out = splice(tone, torch.zeros_like(tone), 4_000)
    assert (out - tone)[:, 2_000:-2_000].abs().max() < 1e-4


@pytest.mark.parametrize("length", [1, 17, 5_000, 40_001])
def test_length_is_kept_and_block_sizes_change_no_bit(length: int) -> None:
    recording, generated = noise(3, length), noise(4, length)
    out = splice(recording, generated, 6_000)
    assert out.shape == recording.shape
    assert torch.equal(out, splice(recording, generated, 6_000, block=773))


def test_shapes_out_of_step_are_refused() -> None:
    splicer = Splicer(Cutoffs.constant(4_000), RATE, 2)
    with pytest.raises(InputError, match="both must be"):
        splicer.push(torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(InputError):
        splicer.push(torch.zeros(1, 5), torch.zeros(1, 5))
    with pytest.raises(InputError):
        Splicer(Cutoffs.constant(30_000), RATE, 1)


def test_an_empty_stream_gives_an_empty_output() -> None:
    assert Splicer(Cutoffs.constant(4_000), RATE, 2).flush().shape == (2, 0)
