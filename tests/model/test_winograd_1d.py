"""Minimal filtering gives what direct 1-D convolutions give, with fewer products, where it pays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lily.config.presets import HifiganConfig
from lily.inference import device
from lily.inference.device import place
from lily.model import winograd_1d
from lily.model.vocoder import HifiganVocoder
from lily.model.winograd_1d import TILE, Conv1d, convolve, matrices, segments_of, transformed

# Of the largest value. Few channels round most: to 2.2e-5 of it with 12, to 9e-6 in HiFi-GAN.
TOLERANCE = 4e-5
CPU = torch.device("cpu")


def layer(randn, width: int, kernel: int, dilation: int = 1) -> Conv1d:
    made = Conv1d(width, kernel, dilation)
    with torch.no_grad():
        made.weight.copy_(randn(width, width, kernel) / (kernel * width) ** 0.5)
        made.bias.copy_(randn(width))
    return made


def rows_inside(x: torch.Tensor) -> torch.Tensor:
    """The same values, with channels innermost in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("strip_bytes", [1, 1 << 24])  # one tile of every phase at a time, and all
@pytest.mark.parametrize("dilation", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 11, 15, 17])
def test_equals_the_direct_convolution(randn, monkeypatch, kernel, dilation, strip_bytes):
    monkeypatch.setattr(winograd_1d, "STRIP_BYTES", strip_bytes)
    weight, bias = randn(20, 12, kernel) / (12 * kernel) ** 0.5, randn(20)
    for length in (1, TILE - 1, TILE, 5 * TILE * dilation, 5 * TILE * dilation + 1, 101):
        x = randn(2, 12, length)
        for offset in (bias, None):
            expected = F.conv1d(
                x.double(),
                weight.double(),
                None if offset is None else offset.double(),
                padding=kernel // 2 * dilation,
                dilation=dilation,
            )
            found = convolve(x, weight, offset, dilation)
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_the_layout_of_the_input_changes_no_bit(randn):
    x, weight = randn(2, 12, 101), randn(20, 12, 7)
    assert torch.equal(convolve(x, weight, None), convolve(rows_inside(x), weight, None))


@pytest.mark.parametrize(
    ("kernel", "segments", "points"), [(3, 1, 9), (7, 1, 13), (11, 2, 13), (15, 2, 14)]
)
def test_the_products_are_those_of_minimal_filtering(randn, kernel, segments, points):
    width, tiles, dilation = 16, 40, 3
    weight, x = randn(width, width, kernel), randn(1, width, tiles * TILE * dilation)
    assert segments_of(kernel) == segments
    assert [len(part) for part in transformed(weight)] == [points] * segments
    with FlopCounterMode(display=False) as counter:
        convolve(x, weight, None, dilation)
    counted = counter.get_flop_counts()["Global"]
    # One product for each segment, of which the counter knows the first; each phase of the dilation
    # has as many tiles more as there are segments.
    made = counted[torch.ops.aten.bmm]
    assert made == 2 * width**2 * points * dilation * (tiles + segments)


@pytest.mark.parametrize("kernel", [3, 7, 11, 15])
def test_the_matrices_make_polynomial_products_exactly(kernel):
    """B^T, G and A^T undo each other for every pair of one input and one tap, to rounding."""
    outputs, inputs, taps = (each.double() for each in matrices(kernel))
    made = torch.einsum("mp,pn,pr->mnr", outputs, inputs, taps)
    expected = torch.zeros_like(made)
    for output in range(TILE):
        for tap in range(taps.shape[1]):
            expected[output, output + tap, tap] = 1
    torch.testing.assert_close(made, expected, rtol=0, atol=3e-5)


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


@pytest.mark.parametrize(("width", "kernel"), [(96, 3), (48, 3), (24, 11)])
def test_a_layer_that_would_not_gain_stays_as_it_is(randn, width, kernel):
    narrow = layer(randn, width, kernel)
    narrow.prepare()
    x = randn(1, width, 50)
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
    rounded.to(torch.bfloat16)
    rounded.prepare()
    x = randn(1, 48, 50).bfloat16()
    with torch.inference_mode():
        assert torch.equal(rounded(x), F.conv1d(x, rounded.weight, rounded.bias, padding=3))


@pytest.mark.parametrize("shape", [(0, 48, 50), (48, 50)])
def test_empty_and_unbatched_inputs_are_convolved_directly(randn, shape):
    prepared = layer(randn, 48, 7)
    prepared.prepare()
    x = randn(*shape)
    with torch.inference_mode():
        assert torch.equal(prepared(x), F.conv1d(x, prepared.weight, prepared.bias, padding=3))


@pytest.mark.parametrize("tiles", [True, False], ids=["with AMX", "without AMX"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_hifigan_is_rounded_on_a_cpu_only_where_that_is_faster(
    make_model, seeded, monkeypatch, precision, tiles
):
    monkeypatch.setattr(device, "multiplies_tiles", lambda: tiles)
    model = make_model()
    config = HifiganConfig(n_mels=32, upsample_initial_channel=256)
    model.first_stage_model.vocoder = seeded(lambda: HifiganVocoder(config))
    placed = place(model, CPU, precision).first_stage_model.vocoder
    rounded = {layer.weight.dtype for layer in placed.modules() if hasattr(layer, "weight")}
    lowered = tiles and precision is torch.bfloat16
    assert rounded == ({torch.float32, torch.bfloat16} if lowered else {torch.float32})
    for layer in (module for module in placed.modules() if isinstance(module, Conv1d)):
        wide = layer.in_channels * layer.kernel_size[0] >= winograd_1d.WIDE
        assert layer.minimal == (wide and layer.weight.dtype is torch.float32)


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
