"""Overlap-save gives what direct 1-D convolutions give, with fewer products and little rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lily.model import overlap_save
from lily.model.overlap_save import LENGTH, convolve, matrices, transformed


@pytest.mark.parametrize("strip_bytes", [1, 1 << 24])  # one tile of every phase at a time, and all
@pytest.mark.parametrize("dilation", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 3, 7, 11, 15, 31])
def test_equals_the_direct_convolution(randn, monkeypatch, kernel, dilation, strip_bytes):
    monkeypatch.setattr(overlap_save, "STRIP_BYTES", strip_bytes)
    weight, bias = randn(20, 12, kernel).double(), randn(20).double()
    tile = LENGTH - kernel + 1
    for length in (1, tile, 3 * tile * dilation, 3 * tile * dilation + 1, 101):
        x = randn(2, 12, length).double()
        for offset in (bias, None):
            expected = F.conv1d(
                x, weight, offset, padding=kernel // 2 * dilation, dilation=dilation
            )
            found = convolve(x, weight, offset, dilation)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_kernel_longer_than_a_tile_is_refused(randn):
    with pytest.raises(ValueError, match="33 taps"):
        convolve(randn(1, 2, 50), randn(2, 2, LENGTH + 1), None)


def test_the_layout_of_the_input_changes_no_bit(randn):
    x, weight = randn(2, 12, 101).bfloat16(), randn(20, 12, 7).bfloat16()
    inside = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(convolve(x, weight, None), convolve(inside, weight, None))


def test_the_transform_amplifies_no_rounding():
    to_frequencies, back = matrices(torch.float64)
    exact = torch.eye(LENGTH, dtype=torch.float64)
    torch.testing.assert_close(back @ to_frequencies, exact, rtol=0, atol=1e-14)
    # Orthogonal: the error of a transformed tile is as large, relative to it, as a sample's.
    scaled = to_frequencies.T @ to_frequencies
    torch.testing.assert_close(scaled, exact * LENGTH / 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", [7, 11, 15])
def test_the_products_are_two_for_each_input_of_a_tile(randn, kernel):
    width, tiles, dilation = 16, 6, 3
    x = randn(1, width, tiles * (LENGTH - kernel + 1) * dilation)
    weight = randn(width, width, kernel)
    assert transformed(weight).shape == (2, LENGTH // 2, width, width)
    with FlopCounterMode(display=False) as counter:
        convolve(x, weight, None, dilation)
    counted = counter.get_flop_counts()["Global"]
    # The counter knows half of them: baddbmm_ adds as many to these.
    made = counted[torch.ops.aten.bmm]
    assert made == 2 * width**2 * LENGTH * dilation * tiles
