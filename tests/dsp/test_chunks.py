"""Laws of the chunk plan, for every length up to three chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.dsp.chunks import Chunk, crossfade_weights, plan_chunks
from lily.errors import InputError

PLANS = [(64, 16, 8), (64, 20, 4), (32, 8, 0), (32, 24, 24), (40, 0, 0), (30, 7, 5)]


@pytest.mark.parametrize(("length", "overlap", "fade"), PLANS)
def test_every_total_is_covered_by_aligned_equal_chunks(
    length: int, overlap: int, fade: int
) -> None:
    for total in range(1, 3 * length + 1):
        chunks = plan_chunks(total, length, overlap)
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert all(chunk.stop - chunk.start == length for chunk in chunks)
        assert all(chunk.start % 8 == 0 for chunk in chunks)
        assert chunks[0].start == 0
        assert chunks[-1].stop >= total
        assert len(chunks) == 1 or chunks[-1].stop - total < 8
        for earlier, later in zip(chunks, chunks[1:], strict=False):
            assert later.start > earlier.start
            assert earlier.stop - later.start >= overlap


@pytest.mark.parametrize(("length", "overlap", "fade"), PLANS)
def test_no_chunk_more_than_needed(length: int, overlap: int, fade: int) -> None:
    stride = (length - overlap) // 8 * 8
    for total in range(1, 3 * length + 1):
        count = len(plan_chunks(total, length, overlap))
        assert count == 1 or stride * (count - 2) + length < total


@pytest.mark.parametrize(("length", "overlap", "fade"), PLANS)
def test_weights_sum_to_one_everywhere(length: int, overlap: int, fade: int) -> None:
    for total in range(1, 3 * length + 1, 3):
        chunks = plan_chunks(total, length, overlap)
        for given_overlap in (None, overlap):
            weights = crossfade_weights(chunks, fade, overlap=given_overlap)
            assert all(weight.shape == (length * 8,) for weight in weights)
            assert all(weight.min() >= 0 for weight in weights)
            total_weight = torch.zeros(chunks[-1].stop * 8)
            for chunk, weight in zip(chunks, weights, strict=True):
                total_weight[chunk.start * 8 : chunk.stop * 8] += weight
            assert torch.allclose(total_weight, torch.ones_like(total_weight), atol=1e-6)


def test_the_fade_lies_in_the_middle_of_the_last_overlap_of_the_earlier_chunk() -> None:
    chunks = plan_chunks(100, 64, 16)  # [0, 64) and [40, 104): they share 24, the plan asks 16
    earlier, later = crossfade_weights(chunks, 8, overlap=16)
    assert (earlier[: 52 * 8] == 1).all() and (earlier[60 * 8 :] == 0).all()
    assert (later[: (52 - 40) * 8] == 0).all() and (later[(60 - 40) * 8 :] == 1).all()
    ramp = later[12 * 8 : 20 * 8]
    assert torch.allclose(ramp.diff(), torch.full((63,), 1 / 64), atol=1e-6)
    assert torch.allclose(ramp + ramp.flip(0), torch.ones(64), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_blending_equal_signals_gives_the_signal(data: st.DataObject) -> None:
    length = data.draw(st.integers(8, 72))
    overlap = data.draw(st.integers(0, length - 8))
    total = data.draw(st.integers(1, 4 * length))
    chunks = plan_chunks(total, length, overlap)
    smallest = overlap if len(chunks) > 1 else 0
    fade = data.draw(st.integers(0, smallest))
    signal = torch.randn(chunks[-1].stop * 8, generator=torch.Generator().manual_seed(total))
    out = torch.zeros_like(signal)
    for chunk, weight in zip(
        chunks, crossfade_weights(chunks, fade, overlap=smallest), strict=True
    ):
        span = slice(chunk.start * 8, chunk.stop * 8)
        out[span] += weight * signal[span]
    assert torch.allclose(out, signal, atol=1e-5)


def test_one_chunk_is_kept_whole() -> None:
    assert plan_chunks(5, 64, 16) == [Chunk(0, 0, 64)]
    assert (crossfade_weights(plan_chunks(5, 64, 16), 8)[0] == 1).all()


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(InputError):
        plan_chunks(0, 64, 16)
    with pytest.raises(InputError, match="at most 56"):
        plan_chunks(100, 64, 60)
    with pytest.raises(InputError, match="does not fit"):
        crossfade_weights(plan_chunks(100, 64, 16), 17, overlap=16)
