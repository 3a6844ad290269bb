"""Laws for any recording: chunk plans, cross-fades, splices and lengths, drawn by hypothesis."""

from __future__ import annotations

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.audio.resample import Resampler
from lily.dsp.chunks import crossfade_weights, plan_chunks
from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs
from lily.dsp.splice import Splicer

RATE = 48_000
ANY = settings(max_examples=60, deadline=None)
plans = st.tuples(st.integers(1, 12), st.integers(0, 88), st.integers(1, 9)).map(
    lambda drawn: (8 * drawn[0], min(drawn[1], 8 * drawn[0] - 8), drawn[2])
)
cutoffs = st.floats(500.0, 23_000.0)


def noise(seed: int, channels: int, length: int) -> torch.Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def cut(data: st.DataObject, length: int) -> list[int]:
    """Block lengths that add up to ``length``, some of them 0."""
    sizes, left = [], length
    while left:
        size = data.draw(st.integers(0, left), label="block")
        sizes.append(size if len(sizes) < 6 else left)
        left -= sizes[-1]
    return sizes


@ANY
@given(plans, st.integers(1, 3_000))
def test_a_plan_covers_any_total_with_equal_aligned_overlapping_chunks(plan, total):
    length, overlap, _ = plan
    chunks = plan_chunks(total, length, overlap)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].start == 0 and chunks[-1].stop >= total
    assert all(chunk.stop - chunk.start == length and chunk.start % 8 == 0 for chunk in chunks)
    for earlier, later in zip(chunks, chunks[1:], strict=False):
        assert later.start > earlier.start and earlier.stop - later.start >= overlap
    assert len(chunks) == 1 or chunks[-2].stop < total  # none more than needed


@ANY
@given(plans, st.integers(1, 600), st.data())
def test_cross_fades_of_any_plan_sum_to_one(plan, total, data):
    length, overlap, frames = plan
    chunks = plan_chunks(total, length, overlap)
    fade = data.draw(st.integers(0, overlap if len(chunks) > 1 else 0))
    total_weight = torch.zeros(chunks[-1].stop * frames, dtype=torch.float64)
    weights = crossfade_weights(chunks, fade, frames, overlap if len(chunks) > 1 else None)
    for chunk, weight in zip(chunks, weights, strict=True):
        assert weight.shape == (length * frames,) and float(weight.min()) >= 0
        total_weight[chunk.start * frames : chunk.stop * frames] += weight
    assert (total_weight - 1).abs().max() < 1e-6


@settings(max_examples=25, deadline=None)  # each designs a resampler
@given(st.integers(1_000, 768_000), st.integers(1, 12_000), st.integers(1, 8), st.data())
def test_any_length_at_any_rate_becomes_exactly_its_length_at_48_khz(rate, length, channels, data):
    expected = -(-length * RATE // rate)
    if expected > 300_000:
        length = 300_000 * rate // RATE or 1
        expected = -(-length * RATE // rate)
    resampler, x = Resampler(rate, RATE), noise(length, channels, length)
    blocks = [resampler.push(block) for block in x.split(cut(data, length), dim=-1)]
    out = torch.cat([*blocks, resampler.flush()], dim=-1)
    assert out.shape == (channels, expected)
    assert Fraction(expected - 1, RATE) < Fraction(length, rate) <= Fraction(expected, RATE)
    whole = Resampler(rate, RATE)
    assert torch.equal(out, torch.cat([whole.push(x), whole.flush()], dim=-1))


@ANY
@given(cutoffs, st.integers(1, 20_000), st.integers(1, 8), st.data())
def test_a_splice_keeps_any_length_and_a_generator_that_changes_nothing(hz, length, channels, data):
    x = noise(1, channels, length)
    splicer = Splicer(Cutoffs.constant(hz), RATE, channels)
    blocks = [splicer.push(block, block) for block in x.split(cut(data, length), dim=-1)]
    assert torch.equal(torch.cat([*blocks, splicer.flush()], dim=-1), x)


@ANY
@given(cutoffs, st.permutations(range(4)), st.integers(4_000, 9_000))
def test_a_splice_keeps_the_order_of_channels(hz, order, length):
    x, made = noise(1, 4, length), noise(2, 4, length)

    def spliced(channels: list[int]) -> torch.Tensor:
        splicer = Splicer(Cutoffs.constant(hz), RATE, 4)
        return torch.cat([splicer.push(x[channels], made[channels]), splicer.flush()], dim=-1)

    assert torch.equal(spliced(list(order)), spliced([0, 1, 2, 3])[list(order)])


@ANY
@given(cutoffs, st.integers(0, 2**31))
def test_a_splice_adds_nothing_below_nine_tenths_of_any_cutoff(hz, seed):
    x, made = noise(seed, 1, 24_000), noise(seed + 1, 1, 24_000)
    splicer = Splicer(Cutoffs.constant(hz), RATE, 1)
    change = torch.cat([splicer.push(x, made), splicer.flush()], dim=-1) - x
    window = torch.kaiser_window(16_000, False, 16.0)
    power = torch.fft.rfft(change[0, 4_000:20_000].double() * window).abs().square()
    frequency = torch.linspace(0, RATE / 2, len(power))
    low, all_of_it = power[frequency < 0.9 * hz - 40].sum(), power.sum()
    assert 10 * torch.log10(low / all_of_it + 1e-30) < -60


@ANY
@given(st.lists(st.tuples(st.integers(1, 9_000), cutoffs), min_size=1, max_size=5), st.data())
def test_segments_of_any_cutoffs_share_the_whole_and_full_ones_stay_untouched(drawn, data):
    starts = [0, *torch.tensor([length for length, _ in drawn]).cumsum(0).tolist()]
    segments = Cutoffs(tuple(starts[:-1]), tuple(hz for _, hz in drawn))
    weights = sum(segments.weights(hz, 0, starts[-1]).double() for hz in set(segments.hz))
    assert (weights - 1).abs().max() < 1e-5
    x, made = noise(1, 2, starts[-1]), noise(2, 2, starts[-1])
    splicer = Splicer(segments, RATE, 2)
    sizes = cut(data, starts[-1])
    pairs = zip(x.split(sizes, -1), made.split(sizes, -1), strict=True)
    out = torch.cat([*(splicer.push(a, b) for a, b in pairs), splicer.flush()], dim=-1)
    assert out.shape == x.shape
    if len(drawn) > 1 and min(segments.hz) >= FULL_BAND_HZ:
        assert torch.equal(out, x)
