"""Laws of the buffers between streams."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lily.dsp.blocks import SampleFifo, ahead, joined


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


def test_one_item_is_made_ahead_of_the_one_in_use():
    made = []
    second = threading.Event()

    def items():
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    stream = ahead(items())
    assert next(stream) == 0
    assert second.wait(60)  # while the first is still in use
    assert list(stream) == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_no_item_is_made_after_the_stream_is_closed():
    made = []
    stream = ahead(made.append(number) or number for number in range(9))
    assert next(stream) == 0
    stream.close()
    assert made == [0, 1]


def test_an_error_of_an_item_arrives_in_its_place():
    stream = ahead(1 // divisor for divisor in (1, 1, 0))
    assert [next(stream), next(stream)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(stream)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 20))
def test_joined_frames_are_the_same_frames_in_longer_blocks(lengths, least):
    frames = torch.arange(2 * sum(lengths)).view(2, -1, 1)
    blocks = list(joined(frames.split(lengths, dim=1), least))
    assert torch.equal(torch.cat([frames[:, :0], *blocks], dim=1), frames)
    assert all(block.shape[1] >= least for block in blocks[:-1])
