"""Laws of the streaming vocoder with carriers: bits, variants, silence, and the shape's switch."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import CarrierVocoderConfig
from lily.diffusion.noise import NoiseField
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.stereo_image import StereoImage
from lily.errors import OutOfMemory
from lily.inference.vocode import StreamingVocoder
from lily.model.vocoder import make_vocoder

MELS, HOP, FRAMES = 32, 480, 700  # more than one block of 512 frames
CONFIG = CarrierVocoderConfig(
    n_mels=MELS, dim=8, intermediate=8, layers=2, n_fft=512, side=8, gate_bands=6
)


@pytest.fixture(scope="module")
def vocoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_vocoder(CONFIG).requires_grad_(False).eval()


def strokes(channels: int = 1) -> torch.Tensor:
    time = torch.arange(FRAMES * HOP) / 48_000
    generator = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.randn(channels, len(time), generator=generator)
    return filter_whole(noise * 10 ** (-10 * (time % 0.13)), band_limit_kernel(8_000.0, 48_000))


def vocoded(vocoder, log_mel, low, step=64, shaped=True, seed=0):
    stream = StreamingVocoder(
        vocoder,
        NoiseField(seed, 2, 4),
        FRAMES * HOP,
        HOP,
        torch.device("cpu"),
        torch.float32,
        Cutoffs.constant(8_000.0),
        StereoImage.of(torch.ones(len(low), len(low))),
        shaped,
    )
    made = []
    for start in range(0, FRAMES, step):
        stream.hear(low[:, start * HOP : (start + step) * HOP])
        made += stream.push(log_mel[:, start : start + step])
    return torch.cat([*made, *stream.flush()], dim=1)


@pytest.fixture(scope="module")
def log_mel():
    return torch.randn(2, FRAMES, MELS, generator=torch.Generator().manual_seed(1)) - 6


def test_how_frames_arrive_changes_no_bit(vocoder, log_mel):
    low = strokes(2)
    whole = vocoded(vocoder, log_mel, low, FRAMES)
    assert whole.shape == (2, FRAMES * HOP)
    assert torch.equal(vocoded(vocoder, log_mel, low, 37), whole)
    assert not torch.equal(vocoded(vocoder, log_mel, low, FRAMES, seed=1), whole)


def test_a_variant_has_the_samples_it_has_alone(vocoder, log_mel):
    low = strokes()
    both = vocoded(vocoder, log_mel, low)
    assert torch.equal(both[1:], vocoded(vocoder, log_mel[1:], low))


@pytest.mark.parametrize("fits", [300, 176])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("not enough memory")]
)
def test_when_memory_runs_out_smaller_parts_make_the_same_samples(
    vocoder, log_mel, monkeypatch, fits, error
):
    low, frames = strokes(2), []
    whole = vocoded(vocoder, log_mel, low)
    forward = type(vocoder).forward

    def short_of_memory(self, of, *rest):
        frames.append(of.shape[2])
        if of.shape[2] > fits:
            raise error
        return forward(self, of, *rest)

    monkeypatch.setattr(type(vocoder), "forward", short_of_memory)
    made = vocoded(vocoder, log_mel, low)
    assert (made - whole).abs().max() < 5e-5 * whole.abs().max()
    assert max(frames[-8:]) <= fits < max(frames)  # what follows is not tried in one piece again


@pytest.mark.parametrize("moved", ["white noise", "carriers"])
def test_memory_may_run_out_while_inputs_are_moved_to_the_device(
    vocoder, log_mel, monkeypatch, moved
):
    low, dimensions, move = strokes(2), {"white noise": 2, "carriers": 4}[moved], torch.Tensor.to
    whole, refused = vocoded(vocoder, log_mel, low), []

    def short_of_memory(self, *arguments, **options):
        if self.dim() == dimensions and self.shape[-1] > 400 * HOP:
            refused.append(self.shape)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", short_of_memory)
    made = vocoded(vocoder, log_mel, low)
    assert len(refused) == 1  # what follows is moved in parts at once
    assert (made - whole).abs().max() < 5e-5 * whole.abs().max()


def test_other_errors_and_too_little_memory_for_the_smallest_part_are_raised(
    vocoder, log_mel, monkeypatch
):
    raised = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("shapes differ")]
    for error, expected in zip(raised, (OutOfMemory, RuntimeError), strict=True):

        def broken(*_, error=error):
            raise error

        monkeypatch.setattr(type(vocoder), "forward", broken)
        with pytest.raises(expected):
            vocoded(vocoder, log_mel, strokes(2))


def test_equal_channels_stay_equal(vocoder, log_mel):
    first, second = vocoded(vocoder, log_mel[:1].expand(2, -1, -1), strokes().expand(2, -1))
    assert torch.equal(first, second)


def test_digital_silence_stays_silent(vocoder):
    silence = torch.full((1, FRAMES, MELS), -11.513)
    assert not vocoded(vocoder, silence, torch.zeros(1, FRAMES * HOP)).any()


def test_the_shape_can_be_switched_off(vocoder, log_mel):
    low = strokes()
    shaped, plain = (vocoded(vocoder, log_mel[:1], low, shaped=on) for on in (True, False))
    assert not torch.allclose(shaped, plain, atol=1e-3 * float(plain.abs().max()))
