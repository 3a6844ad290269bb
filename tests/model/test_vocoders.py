"""Both vocoders: blocks with a halo are one pass, and noise goes through linearly."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import HifiganConfig, IstftVocoderConfig
from lily.model.vocoder import HALO, make_vocoder

MELS, HOP = 32, 480
CONFIGS = {
    # Narrow, but with AudioSR's rates, kernels and dilations: they are what the halo must hold.
    "hifigan": HifiganConfig(n_mels=MELS, upsample_initial_channel=32),
    # Six blocks, as the bundled model: their depth is what the halo must hold.
    "istft": IstftVocoderConfig(n_mels=MELS, dim=8, intermediate=8, layers=6, n_fft=1024),
}


@pytest.fixture(scope="module", params=CONFIGS)
def vocoder(request, seeded):
    vocoder = seeded(lambda: make_vocoder(CONFIGS[request.param])).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in vocoder.parameters():  # loud enough that a lost neighbour shows
        if parameter.ndim > 1:
            parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5, generator=generator)
    return vocoder


@pytest.fixture(scope="module")
def istft(seeded):
    return seeded(lambda: make_vocoder(CONFIGS["istft"])).requires_grad_(False)


def test_a_frame_is_480_samples(vocoder, randn):
    for frames in (1, 2, 7, 40):
        log_mel, noise = randn(2, MELS, frames) - 6, randn(2, frames * HOP)
        samples = vocoder(log_mel, noise)
        assert samples.shape == (2, frames * HOP)
        assert samples.isfinite().all()


@pytest.mark.parametrize("block", [16, 50])
def test_blocks_with_a_halo_are_one_pass(vocoder, randn, block):
    frames = 150
    log_mel, noise = randn(1, MELS, frames) - 5, randn(1, frames * HOP)
    whole = vocoder(log_mel, noise)
    parts = []
    for start in range(0, frames, block):
        stop = min(start + block, frames)
        first, last = max(0, start - HALO), min(frames, stop + HALO)
        part = vocoder(log_mel[:, :, first:last], noise[:, first * HOP : last * HOP])
        parts.append(part[:, (start - first) * HOP : (stop - first) * HOP])
    error = (torch.cat(parts, dim=1) - whole).abs().max()
    assert error < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("tile", [200, 333, 1000])
def test_tiles_of_a_bank_are_one_pass(seeded, randn, monkeypatch, tile):
    vocoder = seeded(lambda: make_vocoder(CONFIGS["hifigan"])).requires_grad_(False)
    log_mel = randn(2, MELS, 20) - 5
    whole = vocoder(log_mel)  # 9,600 samples: the last bank alone is tiled
    monkeypatch.setattr("lily.model.vocoder.TILE", 1 << 30)
    plain = vocoder(log_mel)
    monkeypatch.setattr("lily.model.vocoder.TILE", tile)
    for tiled in (whole, vocoder(log_mel)):
        assert (tiled - plain).abs().max() < 1e-5 * plain.abs().max()
    monkeypatch.setattr(vocoder, "reach", vocoder.reach // 4)  # too little shows
    assert (vocoder(log_mel) - plain).abs().max() > 1e-5 * plain.abs().max()


def test_no_sample_sees_further_than_the_halo(vocoder, randn):
    frame, frames = 40, 80
    log_mel = (randn(1, MELS, frames) - 5).requires_grad_()
    samples = vocoder(log_mel, randn(1, frames * HOP))[0]
    first, last = frame * HOP, (frame + 1) * HOP - 1
    gradient = torch.autograd.grad(samples[first] + samples[last], log_mel)[0]
    seen = gradient[0].abs().sum(0).nonzero().flatten()
    assert frame - HALO <= seen.min() < frame - 10  # it does see far: the halo is no luxury
    assert frame + 10 < seen.max() <= frame + HALO


def test_the_halo_is_needed(vocoder, randn):
    log_mel, noise = randn(1, MELS, 80) - 5, randn(1, 80 * HOP)
    whole = vocoder(log_mel, noise)[:, 40 * HOP :]
    part = vocoder(log_mel[:, :, 40:], noise[:, 40 * HOP :])
    assert (whole - part).abs().max() > 1e-3 * whole.abs().max()


def test_the_same_input_gives_the_same_bits(vocoder, randn):
    log_mel, noise = randn(1, MELS, 20) - 5, randn(1, 20 * HOP)
    assert torch.equal(vocoder(log_mel, noise), vocoder(log_mel, noise))


def test_hifigan_uses_no_noise_and_stays_within_full_scale(seeded, randn):
    vocoder = seeded(lambda: make_vocoder(CONFIGS["hifigan"])).requires_grad_(False)
    log_mel = randn(1, MELS, 20) * 5
    samples = vocoder(log_mel)
    assert not vocoder.uses_noise
    assert torch.equal(samples, vocoder(log_mel, randn(1, 20 * HOP)))
    assert samples.abs().max() <= 1


def test_the_istft_vocoder_is_linear_in_its_noise(istft, randn):
    log_mel = randn(1, MELS, 20) - 5
    one, other = randn(1, 20 * HOP), randn(1, 20 * HOP)
    still = istft(log_mel, torch.zeros(1, 20 * HOP))
    mixed = istft(log_mel, 0.3 * one - 2 * other) - still
    parts = 0.3 * (istft(log_mel, one) - still) - 2 * (istft(log_mel, other) - still)
    assert (mixed - parts).abs().max() < 1e-4 * mixed.abs().max()
    assert mixed.abs().max() > 0


def test_the_istft_vocoder_asks_for_its_noise(istft, randn):
    assert istft.uses_noise
    with pytest.raises(ValueError, match="needs noise"):
        istft(randn(1, MELS, 4))


def test_silence_stays_silent_and_louder_log_mels_are_louder(istft, randn):
    noise = randn(1, 40 * HOP)
    levels = [istft(torch.full((1, MELS, 40), mel), noise).std() for mel in (-11.5, -6.0, -2.0)]
    assert levels[0] < 1e-3
    # The natural log of a magnitude: 4 more is exp(4) times louder, whatever the network adds.
    assert levels[2] / levels[1] == pytest.approx(torch.e**4, rel=0.2)


def test_a_mel_between_low_and_high_makes_sound_where_it_says(istft, randn):
    noise = randn(1, 40 * HOP)
    log_mel = torch.full((1, MELS, 40), -11.0)
    log_mel[:, MELS // 2 :] = -2.0  # the upper half of the mels: above about 4 kHz
    power = torch.fft.rfft(istft(log_mel, noise)[0]).abs().square()
    below, above = power[: len(power) // 12].mean(), power[len(power) // 4 :].mean()
    assert above > 1e4 * below
