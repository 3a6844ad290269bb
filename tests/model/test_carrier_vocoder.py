"""The carrier vocoder: blocks leave no trace, the envelope rules the level, silence stays."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lily.config.presets import CarrierVocoderConfig
from lily.dsp.carriers import HOP as COPY_HOP
from lily.dsp.carriers import Guide, LowBand
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.model.istft_vocoder import IstftVocoder
from lily.model.vocoder import HALO, make_vocoder

MELS, HOP, CUTOFF = 32, 480, 8_000.0
CONFIG = CarrierVocoderConfig(
    n_mels=MELS, dim=8, intermediate=8, layers=6, n_fft=1024, side=8, gate_bands=6
)


@pytest.fixture(scope="module")
def vocoder(seeded):
    return seeded(lambda: make_vocoder(CONFIG)).requires_grad_(False)


@pytest.fixture(scope="module")
def loud(seeded):
    """Weights so large that a lost neighbour shows."""
    vocoder = seeded(lambda: make_vocoder(CONFIG)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in vocoder.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5, generator=generator)
    return vocoder


def guide(samples: torch.Tensor, cutoff: float = CUTOFF, start: int = 0) -> Guide:
    """Of a recording (1, n) whose first sample is at ``start``."""
    low = LowBand(samples[None], torch.full((1, samples.shape[-1] // HOP), cutoff), start)
    return low.guide(torch.full_like(low.lag, 0.4))


def recording(frames: int, seed: int = 0) -> torch.Tensor:
    """Band-limited: a tone and noise in strokes, (1, frames * 480)."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(frames * HOP) / 48_000
    tone = sum(torch.sin(2 * torch.pi * 441 * k * time) / k for k in range(1, 18))
    strokes = torch.randn(len(time), generator=generator) * 10 ** (-10 * (time % 0.13))
    return filter_whole((0.1 * tone + 0.2 * strokes)[None], band_limit_kernel(CUTOFF, 48_000))


def test_a_frame_is_480_samples_whatever_the_cutoff(loud, randn):
    for cutoff in (500.0, 8_000.0, 19_000.0, 23_000.0):
        made = loud(randn(1, MELS, 40) - 6, randn(1, 40 * HOP), guide(recording(40), cutoff))
        assert made.shape == (1, 40 * HOP)
        assert made.isfinite().all()


def test_blocks_with_a_halo_are_one_pass(loud, randn):
    frames, block = 160, 50
    log_mel, noise, low = randn(1, MELS, frames) - 5, randn(1, frames * HOP), recording(frames)
    whole = loud(log_mel, noise, guide(low))
    parts = []
    for start in range(0, frames, block):
        stop = min(start + block, frames)
        first, last = max(0, start - HALO), min(frames, stop + HALO)
        span = slice(first * HOP, last * HOP)
        part = loud(
            log_mel[:, :, first:last], noise[:, span], guide(low[:, span], start=first * HOP)
        )
        parts.append(part[:, (start - first) * HOP : (stop - first) * HOP])
    error = (torch.cat(parts, dim=1) - whole).abs().max()
    assert error < 5e-5 * whole.abs().max()


def test_without_a_guide_it_is_the_istft_vocoder_with_the_same_tensors(loud, randn):
    plain = IstftVocoder(CONFIG)
    shared = {key: value for key, value in loud.state_dict().items() if key in plain.state_dict()}
    plain.load_state_dict(shared, strict=True)
    log_mel, noise = randn(1, MELS, 40) - 5, randn(1, 40 * HOP)
    assert torch.equal(loud(log_mel, noise), plain(log_mel, noise))


def test_it_asks_for_noise_and_for_the_recording(vocoder, randn):
    assert vocoder.uses_noise and vocoder.uses_recording
    with pytest.raises(ValueError, match="needs noise"):
        vocoder(randn(1, MELS, 40), None, guide(recording(40)))


def test_digital_silence_stays_silent(vocoder, randn):
    silence = torch.full((1, MELS, 40), -11.513)
    made = vocoder(silence, randn(1, 40 * HOP), guide(torch.zeros(1, 40 * HOP)))
    assert not made.any()


def level_db(samples: torch.Tensor) -> float:
    """Of what lies above 9 kHz."""
    inner = samples[0, 4_800:-4_800]
    power = torch.fft.rfft(inner * torch.hann_window(len(inner))).abs().square()
    return float(10 * power[len(power) * 9 // 24 :].mean().log10())


TIME = torch.arange(80 * HOP)
LOW_BANDS = {
    "square wave at full scale": torch.sign(torch.sin(TIME * 0.013)),
    "pure tone": torch.sin(TIME * 0.4),
    "clicks": (TIME % 9_000 == 4_500).float(),
    "noise": torch.randn(len(TIME), generator=torch.Generator().manual_seed(5)),
}


@pytest.mark.parametrize("name", LOW_BANDS)
def test_the_log_mel_rules_the_level_whatever_the_recording_is(vocoder, randn, name):
    log_mel, noise = torch.full((1, MELS, 80), -6.0), randn(1, 80 * HOP)
    low = filter_whole(LOW_BANDS[name][None], band_limit_kernel(CUTOFF, 48_000))
    made = vocoder(log_mel, noise, guide(low))
    assert made.isfinite().all()
    # Open carriers add at most 2 dB in power to the noise, and an attack gathers level in time.
    assert level_db(made) < level_db(vocoder(log_mel, noise)) + 4.0


def test_a_gate_mixes_its_copy_in(seeded, randn):
    vocoder = seeded(lambda: make_vocoder(CONFIG)).requires_grad_(False)
    log_mel, noise, low = torch.full((1, MELS, 80), -5.0), randn(1, 80 * HOP), recording(80)
    read = guide(low)
    bias = vocoder.gates.bias.unflatten(0, (CONFIG.frames_per_mel, 3, CONFIG.gate_bands))
    made = []
    for open_gate in range(3):
        bias[:] = -20.0
        bias[:, open_gate] = 0.0
        made.append(vocoder(log_mel, noise, read)[0])
    aligned, drawn = read.copies[0, 0]

    def likeness(samples: torch.Tensor, copy: torch.Tensor) -> float:
        inner = slice(9_600, -9_600)
        high = filter_whole(copy[None], -band_limit_kernel(9_000.0, 48_000))[0] + copy
        return float(torch.corrcoef(torch.stack([samples[inner], high[inner]]))[0, 1])

    assert abs(likeness(made[0], aligned)) < 0.1
    assert likeness(made[1], aligned) > 0.3 > abs(likeness(made[1], drawn))
    assert likeness(made[2], drawn) > 0.3


@pytest.mark.parametrize("lines_db", [-6.0, 0.0, 3.0, 6.0])
def test_lines_gain_on_noise_by_twice_their_decibels_at_the_same_power(vocoder, randn, lines_db):
    tilted = make_vocoder(replace(CONFIG, lines_db=lines_db)).requires_grad_(False)
    tilted.load_state_dict(vocoder.state_dict())
    heads = randn(1, 12, vocoder.gates.in_features)
    plain, made = (v._gates(heads).square() for v in (vocoder, tilted))  # (B, S, carriers, bins)
    edges = slice(None, None, plain.shape[-1] - 1)  # the first and last band's own bins
    noise, *copies = (made / plain)[..., edges].unbind(2)
    for copy in copies:
        assert torch.allclose(copy / noise, torch.full_like(copy, 10 ** (2 * lines_db / 10)))
    total = made.sum(2)[..., -1] / plain.sum(2)[..., -1]
    assert torch.allclose(total, torch.ones_like(total))


def test_gates_of_bands_below_all_training_cutoffs_have_unit_power_at_most(seeded, randn):
    config = replace(CONFIG, gate_bands=48)
    vocoder = seeded(lambda: make_vocoder(config)).requires_grad_(False)
    vocoder.gates.bias.fill_(1.5)  # 13 dB each
    gates = vocoder._gates(0 * randn(1, 8, vocoder.gates.in_features))
    power = gates.square().sum(2)
    hz = torch.linspace(0, 24_000, power.shape[-1])
    assert power[..., hz < 1_500].max() <= 1.001
    assert power[..., hz > 2_600].min() == pytest.approx(3 * math.exp(3.0), rel=0.01)


def test_the_start_of_the_copies_is_a_place_in_the_recording():
    low = recording(80)
    with pytest.raises(ValueError, match=str(COPY_HOP)):
        guide(low, start=480)


def test_sharpen_makes_attacks_steeper_and_leaves_the_band_below(vocoder, randn):
    frames = 120
    sharp = make_vocoder(replace(CONFIG, sharpen=2.0)).requires_grad_(False)
    sharp.load_state_dict(vocoder.state_dict())
    log_mel, noise, of = randn(1, MELS, frames) * 0.1, randn(1, frames * HOP), recording(frames)
    soft, steep = (made(log_mel, noise, guide(of)) for made in (vocoder, sharp))
    kernel = band_limit_kernel(CUTOFF, 48_000)
    highs = [made - filter_whole(made, kernel) for made in (soft, steep)]
    levels = [h.unfold(-1, 192, 192).square().mean(-1).log() for h in highs]  # 4 ms
    soft_rise, steep_rise = (level.diff().topk(8).values.mean() for level in levels)
    assert steep_rise > soft_rise + 0.3
    below = band_limit_kernel(0.8 * CUTOFF, 48_000)
    change = filter_whole(steep - soft, below).square().mean()
    assert change < 1e-4 * (steep - soft).square().mean()
