"""Winograd's convolutions give what direct ones give, with fewer products, where they pay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lily.inference.device import place
from lily.model import winograd
from lily.model.winograd import Conv3x3, convolve, transformed

# Of the largest value. Rounding with tiles of 4 gives 5e-6 to 1.1e-5, growing with the layer.
TOLERANCE = 3e-5


def layer(randn, width_in: int, width_out: int) -> Conv3x3:
    made = Conv3x3(width_in, width_out)
    with torch.no_grad():
        made.weight.copy_(randn(width_out, width_in, 3, 3) / (9 * width_in) ** 0.5)
        made.bias.copy_(randn(width_out))
    return made


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("strip_bytes", [1, 1 << 24])  # one row of tiles at a time, and all
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 2), (8, 8), (13, 7), (9, 18)])
def test_equals_the_direct_convolution(randn, monkeypatch, side, strip_bytes, shape):
    monkeypatch.setattr(winograd, "STRIP_BYTES", strip_bytes)
    x, weight, bias = randn(2, 24, *shape), randn(40, 24, 3, 3), randn(40)
    for offset in (bias, None):
        expected = F.conv2d(
            x.double(), weight.double(), None if offset is None else offset.double(), padding=1
        )
        found = convolve(x, transformed(weight, side), offset)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize(("side", "times"), [(2, 2.25), (4, 4.0)])
def test_makes_as_many_times_fewer_products_as_lavin_and_gray_say(randn, side, times):
    x, weight = randn(1, 16, 8, 16), randn(16, 16, 3, 3)
    kernels = transformed(weight, side)
    with FlopCounterMode(display=False) as direct:
        F.conv2d(x, weight, padding=1)
    with FlopCounterMode(display=False) as fewer:
        convolve(x, kernels, None)
    assert direct.get_total_flops() == times * fewer.get_total_flops()


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("width_in", "width_out"), [(256, 256), (256, 384), (320, 264)])
def test_a_prepared_layer_equals_itself_before(randn, keep, width_in, width_out):
    plain = layer(randn, width_in, width_out)
    prepared = copy.deepcopy(plain)
    prepared.prepare(keep)
    x = randn(2, width_in, 9, 6)
    with torch.inference_mode():
        expected, found = plain(x), prepared(x)
    assert not torch.equal(found, expected)  # it is another algorithm
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert prepared.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(prepared(x), plain(x))  # gradients are wanted here: direct


@pytest.mark.parametrize("keep", [True, False])
def test_kernels_are_kept_only_where_asked(randn, keep):
    wide = layer(randn, 256, 256)
    wide.prepare(keep)
    assert (wide.kernels is not None) == keep


@pytest.mark.parametrize(
    ("width_in", "width_out", "keep"), [(128, 256, False), (256, 128, False), (640, 640, True)]
)
def test_a_layer_that_would_not_gain_stays_as_it_is(randn, width_in, width_out, keep):
    narrow = layer(randn, width_in, width_out)
    narrow.prepare(keep)
    x = randn(1, width_in, 4, 5)
    with torch.inference_mode():
        assert torch.equal(narrow(x), F.conv2d(x, narrow.weight, narrow.bias, padding=1))


def test_another_type_is_convolved_directly(randn):
    prepared = layer(randn, 256, 256)
    prepared.prepare(True)
    prepared.to(torch.bfloat16)
    x = randn(1, 256, 4, 5).bfloat16()
    with torch.inference_mode():
        assert torch.equal(prepared(x), F.conv2d(x, prepared.weight, prepared.bias, padding=1))


def changed_by_loading(made: Conv3x3) -> None:
    made.load_state_dict({name: 2 * value for name, value in made.state_dict().items()})


def changed_in_place(made: Conv3x3) -> None:
    with torch.no_grad():
        made.weight.mul_(2)


def changed_by_rounding(made: Conv3x3) -> None:
    made.half().float()


@pytest.mark.parametrize("change", [changed_by_loading, changed_in_place, changed_by_rounding])
def test_kept_kernels_follow_the_weights(randn, change):
    prepared = layer(randn, 256, 256)
    prepared.prepare(True)
    change(prepared)
    with torch.inference_mode():
        prepared(randn(1, 256, 4, 5))
    assert torch.equal(prepared.kernels, transformed(prepared.weight.detach(), prepared.side))


@pytest.mark.parametrize("shape", [(0, 256, 4, 5), (256, 4, 5)])
def test_empty_and_unbatched_inputs_are_convolved_directly(randn, shape):
    prepared = layer(randn, 256, 256)
    prepared.prepare(False)
    x = randn(*shape)
    with torch.inference_mode():
        assert torch.equal(prepared(x), F.conv2d(x, prepared.weight, prepared.bias, padding=1))


def test_a_model_placed_again_in_another_type_keeps_no_kernels(make_model, monkeypatch):
    monkeypatch.setattr(winograd, "WIDE", 1)
    placed = place(make_model(), torch.device("cpu"), torch.float32)
    placed = place(placed, torch.device("cpu"), torch.bfloat16)
    found = [module for module in placed.modules() if isinstance(module, Conv3x3)]
    assert found and all(m.side is None and m.kernels is None for m in found)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_placed_model_is_prepared_in_float32_only(make_model, monkeypatch, precision):
    monkeypatch.setattr(winograd, "WIDE", 1)
    plain = make_model()
    placed = place(make_model(), torch.device("cpu"), precision)
    found = [module for module in placed.modules() if isinstance(module, Conv3x3)]
    assert found and all((m.side is not None) == (precision is torch.float32) for m in found)
    if precision is torch.float32:
        kept = {m for m in placed.unet.modules() if isinstance(m, Conv3x3)}
        assert all((m.kernels is not None) == (m in kept) for m in found)
        z = torch.ones(1, plain.first_stage_model.config.z_channels, 8, 4)
        with torch.inference_mode():
            expected, made = (m.first_stage_model.decode(z) for m in (plain, placed))
        assert (made - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_the_networks_convolve_through_it(make_model):
    model = make_model()
    for part in (model.unet, model.first_stage_model):
        blocks = [m for m in part.modules() if type(m).__name__ in ("ResBlock", "ResnetBlock")]
        plain = [c for b in blocks for c in b.modules() if isinstance(c, nn.Conv2d)]
        assert any(isinstance(c, Conv3x3) for c in plain)
        assert all(isinstance(c, Conv3x3) for c in plain if c.kernel_size == (3, 3))
