"""Minimal filtering gives what direct 1-D convolutions give, with fewer products."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lily.model import winograd_1d
from lily.model.winograd_1d import TILE, convolve, matrices, segments_of, transformed

# Of the largest value. Few channels round most: to 2.2e-5 of it with 12, to 9e-6 in HiFi-GAN.
TOLERANCE = 4e-5


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
