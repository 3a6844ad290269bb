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

    def __call__(self, x, low, t):
        self.calls.append((x, low, t))
        return 0.3 * x + 0.2 * low + t[:, None, None, None] / 1000


@pytest.fixture
def rows(randn):
    return randn(2, 3, 8, 4), randn(2, 3, 8, 4), torch.tensor([999, 3])


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.5, 3.5])
def test_v_goes_from_the_unconditional_past_the_conditional(rows, guidance):
    x, low, t = rows
    predict = Recorder()
    c = predict(x, low, t)
    u = predict(x, torch.full_like(low, UNCONDITIONAL), t)
    v = guided(predict, x, low, t, torch.tensor(UNCONDITIONAL), guidance)
    torch.testing.assert_close(v, u + guidance * (c - u))


def test_both_branches_are_one_call_with_conditional_rows_first(rows):
    x, low, t = rows
    predict = Recorder()
    guided(predict, x, low, t, torch.full_like(low, UNCONDITIONAL), 2.0)
    [(seen_x, seen_low, seen_t)] = predict.calls
    assert torch.equal(seen_x, torch.cat([x, x]))
    assert torch.equal(seen_t, torch.cat([t, t]))
    assert torch.equal(seen_low[:2], low)
    assert (seen_low[2:] == UNCONDITIONAL).all()


def test_guidance_of_one_skips_the_unconditional_branch(rows):
    x, low, t = rows
    predict = Recorder()
    v = guided(predict, x, low, t, UNCONDITIONAL, 1.0)
    [(seen_x, seen_low, _)] = predict.calls
    assert torch.equal(seen_x, x)
    assert torch.equal(seen_low, low)
    assert torch.equal(v, Recorder()(x, low, t))


def test_a_number_serves_as_the_unconditional_latent(rows):
    x, low, t = rows
    number = guided(Recorder(), x, low, t, UNCONDITIONAL, 3.0)
    tensor = guided(Recorder(), x, low, t, torch.full_like(low, UNCONDITIONAL), 3.0)
    assert torch.equal(number, tensor)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_half_precision_predictions_are_mixed_in_float32(rows, guidance):
    x, low, t = rows
    v = guided(lambda *a: Recorder()(*a).bfloat16(), x, low, t, UNCONDITIONAL, guidance)
    assert v.dtype == torch.float32
