"""Laws of segments: a change is reported where both sides prove it, and nowhere else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import RATE, low, meter_of, music

from lily.audio.read import read_audio
from lily.dsp.codec import mp3, round_trip
from lily.ui.examples import RECORDINGS


def segments(*parts: torch.Tensor, **options: float) -> list[tuple[float, float]]:
    return list(meter_of(torch.cat(parts, dim=-1), **options).segments())


def assert_found(found: list, truth: list[tuple[float, float]]) -> None:
    assert len(found) == len(truth)
    for (start, hz), (true_start, true_hz) in zip(found, truth, strict=True):
        assert start == pytest.approx(true_start, abs=1.5)  # half of a pause and a slot
        assert hz == pytest.approx(true_hz, rel=0.05)


@pytest.mark.parametrize("cutoff_hz", [3_000.0, 5_500.0, 11_000.0])
@pytest.mark.parametrize("order", ["wn", "nw", "wnw", "nwn"])
def test_narrow_and_wide_parts_are_told_apart(order: str, cutoff_hz: float) -> None:
    parts = [music(seed, 10.0) for seed in range(len(order))]
    parts = [low(x, cutoff_hz) if what == "n" else x for x, what in zip(parts, order, strict=True)]
    ends = [cutoff_hz if what == "n" else 24_000.0 for what in order]
    assert_found(segments(*parts), [(10.0 * i, hz) for i, hz in enumerate(ends)])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1_000),
    cutoff_hz=st.floats(2_500, 12_000),
    level_db=st.floats(-25, 0),
    slope_db=st.floats(-6, 0),
    seconds=st.floats(8, 20),
    narrow_first=st.booleans(),
)
def test_a_change_is_found_at_any_place_and_level(
    seed: int,
    cutoff_hz: float,
    level_db: float,
    slope_db: float,
    seconds: float,
    narrow_first: bool,
) -> None:
    narrow = low(music(seed, seconds, slope_db), cutoff_hz) * 10 ** (level_db / 20)
    wide = music(seed + 1, 20 - seconds / 2, slope_db)
    parts, ends = [wide, narrow], [24_000.0, cutoff_hz]
    if narrow_first:
        parts, ends = parts[::-1], ends[::-1]
    assert_found(segments(*parts), [(0.0, ends[0]), (parts[0].shape[-1] / RATE, ends[1])])


def test_a_quiet_wide_part_is_not_taken_for_missing_highs() -> None:
    loud, quiet = low(music(1, 10.0), 8_000), 0.02 * music(2, 10.0)
    assert_found(segments(loud, quiet), [(0.0, 8_000.0), (10.0, 24_000.0)])


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1_000), slope_db=st.floats(-12, 0), edge=st.booleans())
def test_an_untouched_recording_is_one_segment(seed: int, slope_db: float, edge: bool) -> None:
    x = music(seed, 15.0, slope_db)
    meter = meter_of(low(x, 9_000) if edge else x)
    assert meter.segments() == ((0.0, meter.result().cutoff_hz),)


def test_pauses_quiet_passages_and_basses_are_no_segments() -> None:
    wide = music(3, 10.0)
    hiss = 2e-5 * torch.randn(1, 9 * RATE, generator=torch.Generator().manual_seed(4))
    time = torch.arange(9 * RATE) / RATE
    bass = sum(0.2 / k * torch.sin(2 * torch.pi * 110 * k * time) for k in range(1, 12))[None]
    for passage in (torch.zeros(1, 9 * RATE), hiss, 0.003 * music(5, 9.0), bass + hiss):
        assert len(segments(wide, passage, wide)) == 1


def test_a_click_and_a_short_narrow_part_change_nothing() -> None:
    narrow = low(music(6, 16.0), 5_000)
    narrow[:, 8 * RATE] = 0.9
    assert len(segments(narrow, music(7, 10.0))) == 2
    assert len(segments(music(8, 10.0), low(music(9, 3.0), 5_000), music(10, 10.0))) == 1


def test_an_mp3_among_untouched_parts_is_found() -> None:
    wide = music(11, 10.0, 0.0)
    found = segments(wide, round_trip(wide, mp3(32)), wide)
    alone = meter_of(round_trip(wide, mp3(32))).result().cutoff_hz
    assert_found(found, [(0.0, 24_000.0), (10.0, alone), (20.0, 24_000.0)])


def test_block_sizes_and_channels_change_nothing() -> None:
    x = torch.cat([music(12, 9.0), low(music(13, 9.0), 6_000)], dim=-1)
    expected = segments(x, block=1 << 20)
    assert len(expected) == 2
    assert segments(x, block=777) == expected
    assert segments(torch.cat([0 * x, x])) == expected


@pytest.mark.parametrize("channels", [1, 2])
def test_statistics_grow_by_a_few_megabytes_an_hour_for_each_signal(channels: int) -> None:
    meter = meter_of(music(14, 10.0).repeat(channels, 1))
    signals = 1 if channels == 1 else 1 + channels  # the loudest of all, and each alone
    before = meter.nbytes
    for _ in range(2):
        meter.push(music(14, 10.0).repeat(channels, 1))
    assert before < 2e6 * signals
    assert 180 * (meter.nbytes - before) < 6e6 * signals


@pytest.mark.parametrize("narrow_first", [False, True])
@pytest.mark.parametrize("seconds", [8.0, 9.137, 10.41])
def test_a_boundary_lies_where_the_sound_changes(seconds: float, narrow_first: bool) -> None:
    generator = torch.Generator().manual_seed(round(1_000 * seconds))
    before, after = (
        0.1 * torch.randn(1, round(s * RATE), generator=generator) for s in (seconds, 9)
    )
    parts = [low(before, 4_000.0), after] if narrow_first else [before, low(after, 4_000.0)]
    (_, (start, _)) = segments(*parts)
    assert start == pytest.approx(
        seconds, abs=0.025
    )  # a frame's hop; segments cross-fade over 20 ms


def test_the_example_that_changes_is_cut_where_it_does() -> None:
    (_, (start, hz)) = meter_of(read_audio(RECORDINGS["changing-bandwidth"])).segments()
    assert start == pytest.approx(7.0, abs=0.025) and hz == pytest.approx(4_000, rel=0.05)


def test_highs_that_are_only_quieter_are_no_change_of_bandwidth() -> None:
    first, second = music(11, 10.0, -3.0), music(12, 10.0, -3.0)
    # Above a steep edge at 6 kHz the second part is 18 dB down: darker, not narrower.
    kept = low(second, 6_000.0)
    second = kept + 10 ** (-18 / 20) * (second - kept)
    assert len(segments(first, second)) == 1


def test_passages_with_quiet_highs_leave_a_wide_segment_wide() -> None:
    narrow, wide = music(1, 24.0).chunk(2, dim=-1)
    # Every other second the highs of the wide half are 18 dB down: a gentle fall, but no wall.
    gain = torch.tensor([1.0, 10 ** (-18 / 20)]).repeat(6).repeat_interleave(RATE)
    kept = low(wide, 5_000.0)
    found = segments(low(narrow, 5_000.0), kept + gain * (wide - kept))
    assert [hz for _, hz in found] == pytest.approx([5_000, 24_000], rel=0.02)
    assert found[1][0] == pytest.approx(12.0, abs=0.25)
