"""Laws of the buffers between streams."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lily.dsp.blocks import SampleFifo


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_samples_leave_in_the_order_they_came(steps):
    fifo, pushed, left = SampleFifo(), 0, 0
    for size, taken, dropped in steps:
        fifo.push(torch.arange(pushed, pushed + size)[None])
        pushed += size
        taken = min(taken, pushed - left)
        expected = torch.arange(left, left + taken)[None]
        assert torch.equal(fifo.peek(taken), expected)
        assert torch.equal(fifo.take(taken), expected)
        left += taken
        fifo.drop(dropped)
        left = min(pushed, left + dropped)
        assert fifo.count == pushed - left


def test_more_than_is_held_is_refused():
    fifo = SampleFifo()
    fifo.push(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="6 samples were asked for, 5 are held"):
        fifo.take(6)
    assert fifo.take(5).shape == (2, 5)
