"""Laws of rotary positions: pairs turn by their angles, the rest passes, gradients flow."""

from __future__ import annotations

import torch

from lily.model.rotary import rotate, rotation


def test_pairs_turn_as_complex_numbers_and_the_rest_passes(randn):
    x, times = randn(2, 3, 7, 10), torch.arange(14, dtype=torch.float64).view(2, 7)
    cosines, sines = (each[:, None] for each in rotation(times, 3.0, 4, x.device))
    turned = rotate(x, cosines, sines)
    numbers = torch.complex(x[..., :4], x[..., 4:8]) * torch.complex(cosines, sines)
    torch.testing.assert_close(turned[..., :4], numbers.real)
    torch.testing.assert_close(turned[..., 4:8], numbers.imag)
    assert torch.equal(turned[..., 8:], x[..., 8:])


def test_a_gradient_turns_back(randn):
    x, direction = randn(1, 2, 5, 8).requires_grad_(), randn(1, 2, 5, 8)
    times = torch.arange(5, dtype=torch.float64)[None]
    cosines, sines = (each[:, None] for each in rotation(times, 3.0, 3, x.device))
    (rotate(x, cosines, sines) * direction).sum().backward()
    torch.testing.assert_close(x.grad, rotate(direction, cosines, -sines))
