"""Doubling the resolution: the fused convolution gives what the plain one gives."""

from __future__ import annotations

import pytest
import torch

from lily.inference.device import place
from lily.model.layers import Upsample


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 2), (7, 9)])
def test_fused_equals_the_convolution_of_every_value_four_times(seeded, shape):
    plain, fused = (seeded(lambda: Upsample(6)) for _ in range(2))
    fused.fuse()
    x = torch.randn(2, 6, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        assert torch.equal(plain(x), expected)
        assert torch.allclose(fused(x), expected, atol=1e-6)


def test_fused_twice_is_fused_once_and_frees_the_plain_kernel(seeded):
    layer = seeded(lambda: Upsample(6))
    layer.fuse()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.fuse()
    assert {name: value.shape for name, value in before.items()} == {
        "phases.weight": (24, 6, 2, 2),
        "phases.bias": (24,),
    }
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_kernels_are_added_up_before_they_are_rounded(make_model, precision):
    placed = place(make_model(), torch.device("cpu"), precision)
    for layer, plain in zip(layers(placed), layers(make_model()), strict=True):
        assert layer.phases.weight.dtype == precision
        rows = plain.conv.weight[:, :, 1] + plain.conv.weight[:, :, 2]
        last = rows[..., 1] + rows[..., 2]  # of the first phase's 2 x 2 weights
        assert torch.equal(layer.phases.weight[: len(last), :, 1, 1], last.to(precision))


def test_a_placed_model_gives_the_same_latents_and_log_mels(make_model):
    plain, placed = make_model(), place(make_model(), torch.device("cpu"), torch.float32)
    assert layers(placed) and not any(layer.conv for layer in layers(placed))
    first, generator = plain.first_stage_model, torch.Generator().manual_seed(2)
    z = torch.randn(1, first.config.z_channels, 8, 4, generator=generator)
    with torch.no_grad():
        expected, found = (m.first_stage_model.decode(z) for m in (plain, placed))
        assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
        config = plain.unet.config
        x = torch.randn(1, config.in_channels, 16, z.shape[-1] * 2, generator=generator)
        expected, found = (m.unet(x, torch.tensor([500])) for m in (plain, placed))
        assert expected.any()
        assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def layers(model) -> list[Upsample]:
    return [module for module in model.modules() if isinstance(module, Upsample)]
