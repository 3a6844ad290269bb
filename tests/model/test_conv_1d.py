"""A prepared 1-D convolution gives what it gave before, with fewer products, where that pays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from lily.config.presets import HifiganConfig
from lily.inference import device
from lily.inference.device import place
from lily.model import conv_1d, overlap_save, winograd_1d
from lily.model.conv_1d import Conv1d
from lily.model.vocoder import HifiganVocoder

# Of the largest value. Few channels round most: to 2.2e-5 of it with 12, to 9e-6 in HiFi-GAN.
TOLERANCE = 4e-5
CPU = torch.device("cpu")


def layer(randn, width: int, kernel: int, dilation: int = 1) -> Conv1d:
    made = Conv1d(width, kernel, dilation)
    with torch.no_grad():
        made.weight.copy_(randn(width, width, kernel) / (kernel * width) ** 0.5)
        made.bias.copy_(randn(width))
    return made


@pytest.mark.parametrize(("width", "kernel", "dilation"), [(100, 3, 5), (48, 7, 1), (48, 15, 3)])
def test_a_prepared_layer_equals_itself_before(randn, width, kernel, dilation):
    plain = layer(randn, width, kernel, dilation)
    prepared = copy.deepcopy(plain)
    prepared.prepare()
    x = randn(2, width, 90)
    with torch.inference_mode():
        expected, found = plain(x), prepared(x)
    assert not torch.equal(found, expected)  # it is another algorithm
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert prepared.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(prepared(x), plain(x))  # gradients are wanted here: direct
    prepared.reset()
    with torch.inference_mode():
        assert torch.equal(prepared(x), expected)


@pytest.mark.parametrize(("kernel", "dilation"), [(7, 5), (11, 1), (15, 3)])
def test_overlap_save_rounds_less_than_twice_as_much_as_a_direct_layer(randn, kernel, dilation):
    exact = layer(randn, 192, kernel, dilation)
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    x = randn(2, 192, 150)
    with torch.inference_mode():
        expected, direct = exact(x), rounded(x.bfloat16())
        rounded.prepare()
        found = rounded(x.bfloat16())
    assert not torch.equal(found, direct)
    errors = [(y.float() - expected).square().mean().sqrt() for y in (found, direct)]
    assert errors[0] < 2 * errors[1]


@pytest.mark.parametrize(
    ("width", "kernel", "dtype"),
    [
        (96, 3, torch.float32),
        (48, 3, torch.float32),
        (24, 11, torch.float32),
        (192, 5, torch.bfloat16),
        (96, 7, torch.bfloat16),
        (192, 19, torch.bfloat16),
    ],
)
def test_a_layer_that_would_not_gain_stays_as_it_is(randn, width, kernel, dtype):
    narrow = layer(randn, width, kernel).to(dtype)
    narrow.prepare()
    x = randn(1, width, 50).to(dtype)
    with torch.inference_mode():
        expected = F.conv1d(x, narrow.weight, narrow.bias, padding=kernel // 2)
        assert torch.equal(narrow(x), expected)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        Conv1d(8, 4)


@pytest.mark.parametrize("before", [True, False])
def test_another_type_is_convolved_directly(randn, before):
    rounded = layer(randn, 48, 7)
    if before:
        rounded.prepare()
    rounded.to(torch.float64)
    rounded.prepare()
    x = randn(1, 48, 50).double()
    with torch.inference_mode():
        assert torch.equal(rounded(x), F.conv1d(x, rounded.weight, rounded.bias, padding=3))


@pytest.mark.parametrize("shape", [(0, 48, 50), (48, 50)])
def test_empty_and_unbatched_inputs_are_convolved_directly(randn, shape):
    prepared = layer(randn, 48, 7)
    prepared.prepare()
    x = randn(*shape)
    with torch.inference_mode():
        assert torch.equal(prepared(x), F.conv1d(x, prepared.weight, prepared.bias, padding=3))


@pytest.mark.parametrize("multiplies", ["float32", "bfloat16", "tiles"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_hifigan_is_rounded_on_a_cpu_only_where_that_is_faster(
    make_model, seeded, monkeypatch, precision, multiplies
):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: multiplies != "float32")
    monkeypatch.setattr(device, "multiplies_tiles", lambda: multiplies == "tiles")
    model = make_model()
    config = HifiganConfig(n_mels=32, upsample_initial_channel=768)
    model.first_stage_model.vocoder = seeded(lambda: HifiganVocoder(config))
    placed = place(model, CPU, precision).first_stage_model.vocoder
    rounded = {layer.weight.dtype for layer in placed.modules() if hasattr(layer, "weight")}
    lowered = multiplies != "float32" and precision is torch.bfloat16
    assert rounded == ({torch.float32, torch.bfloat16} if lowered else {torch.float32})
    for layer in (module for module in placed.modules() if isinstance(module, Conv1d)):
        products, expected = layer.in_channels * layer.kernel_size[0], None
        if layer.weight.dtype is torch.float32 and products >= conv_1d.WIDE:
            expected = winograd_1d.convolve
        elif layer.weight.dtype is torch.bfloat16 and multiplies == "bfloat16":
            wide = layer.in_channels >= 192 and layer.kernel_size[0] >= 7
            expected = overlap_save.convolve if wide else None
        assert layer.algorithm is expected


def test_a_prepared_vocoder_makes_the_same_samples(seeded, randn):
    config = HifiganConfig(n_mels=32, upsample_initial_channel=192)
    plain = seeded(lambda: HifiganVocoder(config)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in plain.parameters():  # loud enough that an error shows
        if parameter.ndim > 1:
            parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5, generator=generator)
    prepared = copy.deepcopy(plain)
    for module in prepared.modules():
        if isinstance(module, Conv1d):
            module.prepare()
    log_mel = randn(2, 32, 12) - 5
    with torch.inference_mode():
        expected, found = plain(log_mel), prepared(log_mel)
        with torch.autocast("cpu", torch.bfloat16):  # what is stored in float32 runs in it
            cast = prepared(log_mel)
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert torch.equal(cast, found)


def test_a_lowered_vocoder_is_as_near_to_float32_with_fewer_products(seeded, randn, monkeypatch):
    """Layers of 3 taps stay direct, so that both layouts meet in a bank; in tiles and in one."""
    config = HifiganConfig(n_mels=32, upsample_initial_channel=768)
    exact = seeded(lambda: HifiganVocoder(config)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in exact.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5, generator=generator)
    lowered, log_mel = copy.deepcopy(exact), randn(1, 32, 12) - 5
    lowered.lower(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected, direct = exact(log_mel), lowered(log_mel)
        for module in lowered.modules():
            if isinstance(module, Conv1d):
                module.prepare()
        found = [lowered(log_mel)]
        monkeypatch.setattr("lily.model.vocoder.TILE", 100)
        found.append(lowered(log_mel))
    error = (direct - expected).square().mean().sqrt()
    for samples in found:
        assert not torch.equal(samples, direct)
        assert (samples - expected).square().mean().sqrt() < 1.5 * error


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_small_vocoder_is_stored_in_the_precision_that_is_asked_for(
    make_model, monkeypatch, precision
):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(device, "multiplies_tiles", lambda: False)
    vocoder = place(make_model(), CPU, precision).first_stage_model.vocoder
    assert precision in {parameter.dtype for parameter in vocoder.parameters()}
