"""Guidance is one batch, conditional rows first, and free when it is off."""

from __future__ import annotations

import pytest
import torch

from lily.diffusion.guidance import guided

UNCONDITIONAL = -11.5


class Recorder:
    """A prediction that depends on all it gets, and remembers it."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, x, t, low):
        self.calls.append((x, t, low))
        return 0.3 * x + 0.2 * low + t[:, None, None, None] / 1000


@pytest.fixture
def rows(randn):
    return randn(2, 3, 8, 4), torch.tensor([999, 3]), randn(2, 3, 8, 4)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.5, 3.5])
def test_v_goes_from_the_unconditional_past_the_conditional(rows, guidance):
    x, t, low = rows
    predict = Recorder()
    c = predict(x, t, low)
    u = predict(x, t, torch.full_like(low, UNCONDITIONAL))
    v = guided(predict, x, t, low, torch.tensor(UNCONDITIONAL), guidance)
    torch.testing.assert_close(v, u + guidance * (c - u))


def test_both_branches_are_one_call_with_conditional_rows_first(rows):
    x, t, low = rows
    predict = Recorder()
    guided(predict, x, t, low, torch.full_like(low, UNCONDITIONAL), 2.0)
    [(seen_x, seen_t, seen_low)] = predict.calls
    assert torch.equal(seen_x, torch.cat([x, x]))
    assert torch.equal(seen_t, torch.cat([t, t]))
    assert torch.equal(seen_low[:2], low)
    assert (seen_low[2:] == UNCONDITIONAL).all()


def test_guidance_of_one_skips_the_unconditional_branch(rows):
    x, t, low = rows
    predict = Recorder()
    v = guided(predict, x, t, low, UNCONDITIONAL, 1.0)
    [(seen_x, _, seen_low)] = predict.calls
    assert torch.equal(seen_x, x)
    assert torch.equal(seen_low, low)
    assert torch.equal(v, Recorder()(x, t, low))


def test_a_number_serves_as_the_unconditional_latent(rows):
    x, t, low = rows
    number = guided(Recorder(), x, t, low, UNCONDITIONAL, 3.0)
    tensor = guided(Recorder(), x, t, low, torch.full_like(low, UNCONDITIONAL), 3.0)
    assert torch.equal(number, tensor)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_half_precision_predictions_are_mixed_in_float32(rows, guidance):
    x, t, low = rows
    v = guided(lambda *a: Recorder()(*a).bfloat16(), x, t, low, UNCONDITIONAL, guidance)
    assert v.dtype == torch.float32
