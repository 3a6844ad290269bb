"""Laws of the pair memory: what it finds, what it leaves alone, and that blocks change nothing."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.dsp.pair_memory import (
    MOST,
    STEEPNESS,
    TRUSTED,
    PairMemory,
    PairRecall,
    Pairs,
)
from lily.dsp.unknown import UNKNOWN

MEL = LogMel(MelConfig())
HZ = bin_centres_hz(MEL)
CUTOFF = 4_000.0


def frames(count: int, seed: int = 0) -> torch.Tensor:
    """Frames (count, M) of unlike lows, each with highs of its own."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 12, generator=generator)
    wide = torch.nn.functional.interpolate(points[:, None], len(HZ), mode="linear")[:, 0]
    return (-4.0 + 3.0 * wide).clamp(min=LOG_FLOOR)


def narrow(log_mel: torch.Tensor) -> torch.Tensor:
    return torch.where(HZ < CUTOFF, log_mel, LOG_FLOOR)


def remembered(*parts: torch.Tensor) -> Pairs:
    memory = PairMemory(MEL)
    for part in parts:
        memory.push(part)
    pairs = memory.finish()
    assert pairs is not None
    return pairs


def blended(pairs: Pairs, generated: torch.Tensor, low: torch.Tensor, hz: float = CUTOFF):
    return PairRecall(pairs, MEL).blend(generated, low, torch.full((len(low),), hz))


def test_the_same_lows_recall_their_own_highs() -> None:
    known = frames(60)
    made = blended(remembered(known), torch.full_like(known, -8.0), narrow(known))
    high = HZ > CUTOFF
    assert (made - known)[:, high].abs().mean() < 0.05
    mismatched = remembered(known).mismatched(CUTOFF, torch.Generator().manual_seed(1))
    wrong = blended(mismatched, torch.full_like(known, -8.0), narrow(known))
    assert (wrong - known)[:, high].abs().mean() > 1.0


def test_louder_lows_have_louder_highs_by_half_of_the_difference() -> None:
    known = frames(1)
    made = blended(remembered(known), known.clone(), narrow(known + 0.2))
    assert (made - known)[:, HZ > CUTOFF].mean() == pytest.approx(0.1, abs=0.01)


def test_lows_unlike_any_that_are_known_change_nothing() -> None:
    low, generated = narrow(frames(20, seed=1)) + 8.0, torch.full((20, len(HZ)), -6.0)
    made = blended(remembered(frames(60)), generated, low)
    assert (made - generated).abs().max() < 0.01


def lawful(count: int, fall: float, seed: int) -> torch.Tensor:
    """Frames of one kind: a level below 1.8 kHz, from which all above falls by ``fall`` nepers."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(count, 1, generator=generator) * 4 - 4
    detail = 0.1 * torch.randn(count, len(HZ), generator=generator)
    return level - fall * (HZ > 1_800) + detail


@pytest.mark.parametrize("fall", [0.0, 1.0, 2.0, 3.0])
def test_pairs_whose_lows_miss_the_recorded_top_count_less(fall: float) -> None:
    low = narrow(lawful(40, 1.0, seed=1))
    lookup = remembered(lawful(400, fall, seed=2)).above(CUTOFF)
    missed_db = lookup.missed_db(low)
    assert missed_db.median() == pytest.approx(abs(fall - 1.0) * NEPER_DB, abs=2.0)
    share = lookup.recall(low)[1]
    distance = lookup.keys.nearest(low)[0][:, 0]
    by_distance = 1 / (1 + (distance / TRUSTED) ** STEEPNESS)
    kept = float((share[:, -1] / by_distance).median())
    least, most = {0.0: (0.3, 0.95), 1.0: (0.98, 1.0), 2.0: (0.3, 0.95), 3.0: (0.0, 0.5)}[fall]
    assert least <= kept <= most


def test_the_same_lows_need_no_test() -> None:
    known = frames(60)
    known[:, HZ < 0.5 * CUTOFF] = known[0, HZ < 0.5 * CUTOFF]  # from which nothing follows
    lookup = remembered(known).above(CUTOFF)
    assert lookup.missed_db(narrow(known)).median() > 10.0
    assert lookup.recall(narrow(known))[1].min() > 0.99


def test_what_is_not_known_is_left_as_it_was_generated() -> None:
    known = frames(60)
    cut_off = torch.where(HZ < 9_000, known, UNKNOWN)
    generated = torch.full_like(known, -8.0)
    made = blended(remembered(cut_off), generated, narrow(known))
    assert torch.equal(made[:, HZ > 9_000], generated[:, HZ > 9_000])
    assert (made - known)[:, (HZ > CUTOFF) & (HZ < 9_000)].abs().mean() < 0.05
    unknown = torch.where(HZ < 1.1 * CUTOFF, known, UNKNOWN)  # as narrow as what asks
    assert torch.equal(blended(remembered(unknown), generated, narrow(known)), generated)


def test_only_frames_of_a_cutoff_below_what_is_known_recall() -> None:
    known = frames(40)
    low, generated = narrow(known), torch.full_like(known, -8.0)
    cutoffs_hz = torch.where(torch.arange(40) < 20, CUTOFF, 24_000.0)
    made = PairRecall(remembered(known), MEL).blend(generated, low, cutoffs_hz)
    assert not torch.equal(made[:20], generated[:20])
    assert torch.equal(made[20:], generated[20:])


@pytest.mark.parametrize("count", [1, 700, 3 * MOST + 17])
def test_blocks_change_nothing_and_the_size_is_bounded(count: int) -> None:
    known = frames(count)
    whole, parts = remembered(known), remembered(*known.split(97))
    assert torch.equal(whole.log_mel, parts.log_mel) and torch.equal(whole.known, parts.known)
    assert min(count, MOST // 2) <= len(whole.log_mel) <= MOST
    kept = (known[:, None, :8] == whole.log_mel[None, :, :8]).all(2).any(1).nonzero()[:, 0]
    assert kept[-1] >= count - 1 - count // MOST * 2  # evenly, to its end


def test_silence_is_no_pair() -> None:
    memory = PairMemory(MEL)
    memory.push(torch.full((50, len(HZ)), LOG_FLOOR))
    assert memory.finish() is None
    assert PairMemory(MEL).finish() is None


def test_pairs_of_several_recordings_are_all_asked() -> None:
    first, second = frames(30), frames(30, seed=5)
    both = Pairs.joined([remembered(first), remembered(second)])
    made = blended(both, torch.full_like(second, -8.0), narrow(second))
    assert (made - second)[:, HZ > CUTOFF].abs().mean() < 0.05


def share_of(pairs: Pairs, low: torch.Tensor) -> float | None:
    recall = PairRecall(pairs, MEL)
    recall.blend(torch.full_like(low, -8.0), low, torch.full((len(low),), CUTOFF))
    return recall.borrowed_share


def lent(log_mel: torch.Tensor, end_hz: float | None = None) -> Pairs:
    memory = PairMemory(MEL)
    memory.push(log_mel)
    pairs = memory.finish(borrowed=True, end_hz=end_hz)
    assert pairs is not None
    return pairs


def test_the_borrowed_share_is_that_of_other_recordings_alone() -> None:
    known, other = frames(60), frames(60, seed=1)
    low = narrow(known)
    assert PairRecall(lent(known), MEL).borrowed_share is None
    assert share_of(lent(known), low) > 0.95
    assert share_of(remembered(known), low) == 0.0
    assert share_of(Pairs.joined([remembered(known), lent(other)]), low) < 0.05
    assert share_of(Pairs.joined([remembered(other), lent(known)]), low) > 0.95
    assert share_of(lent(other), low) < 0.2


def test_silent_frames_do_not_count_in_the_borrowed_share() -> None:
    known = frames(60)
    silent = torch.full_like(known, LOG_FLOOR)
    both = torch.cat([narrow(known), silent])
    assert share_of(lent(known), both) == pytest.approx(share_of(lent(known), narrow(known)))
    assert share_of(lent(known), silent) is None


END = 16_000.0
ABOVE_END = torch.arange(len(HZ)) >= MEL.first_bin_above(END)


def ending(log_mel: torch.Tensor) -> torch.Tensor:
    return torch.where(ABOVE_END, UNKNOWN, log_mel)


def test_the_recordings_own_pairs_colour_and_end_nothing() -> None:
    known, other = frames(60), frames(60, seed=1)
    low, generated = narrow(other), torch.full_like(known, -8.0)
    lookup = remembered(known).above(CUTOFF)
    values, share, lends = lookup.recall(low)
    assert not lends.any() and not lookup.above_end.any()
    made = blended(remembered(known), generated, low)
    assert torch.equal(made, torch.lerp(generated, values, share))


def test_above_the_end_of_a_borrowed_recording_the_same_lows_recall_silence() -> None:
    known = frames(60)
    generated = torch.full_like(known, -8.0)
    made = blended(lent(ending(known), END), generated, narrow(known))
    assert (made[:, ABOVE_END] - LOG_FLOOR).max() < 0.1
    open_ended = blended(lent(ending(known)), generated, narrow(known))
    assert torch.equal(open_ended[:, ABOVE_END], generated[:, ABOVE_END])
    between = ~ABOVE_END & (HZ > CUTOFF)
    torch.testing.assert_close(made[:, between], open_ended[:, between])


@pytest.mark.parametrize("above_db", [3.0, 12.0, 60.0])
def test_the_end_of_a_stranger_takes_a_bounded_part_and_no_more_from_what_is_loud(
    above_db: float,
) -> None:
    low = narrow(frames(60, seed=1)) + 8.0  # unlike any that is known
    generated = torch.full((60, len(HZ)), LOG_FLOOR + above_db / NEPER_DB)
    made = blended(lent(ending(frames(60)), END), generated, low)
    assert (made - generated)[:, ~ABOVE_END].abs().max() < 0.01
    taken_db = (generated - made)[:, ABOVE_END].mean() * NEPER_DB
    assert 0.5 < taken_db < 3.5


def test_where_one_recording_reaches_further_nothing_has_ended() -> None:
    wide, other = frames(60, seed=2), lent(ending(frames(60)), END)
    low, generated = narrow(frames(60, seed=1)) + 8.0, torch.full((60, len(HZ)), -8.0)
    for further in (lent(wide), remembered(wide)):
        both = Pairs.joined([other, further])
        assert not both.above(CUTOFF).above_end.any()
        assert (blended(both, generated, low) - generated).abs().max() < 0.01


def test_a_recording_that_knows_nothing_above_the_end_leaves_it_as_it_is() -> None:
    end, lower = lent(ending(frames(60)), END), torch.where(HZ < 9_000.0, frames(60), UNKNOWN)
    for other in (lent(lower), remembered(lower)):
        both = Pairs.joined([end, other]).above(CUTOFF)
        assert torch.equal(both.above_end, end.above(CUTOFF).above_end)


def test_the_colour_of_what_is_borrowed_reaches_frames_that_recall_nothing() -> None:
    known = frames(80)
    low = narrow(known)
    low[60:] += 8.0  # these are unlike any that is known
    high = HZ > CUTOFF
    generated = torch.where(high, known - 2.0, known)
    own, other = (blended(make(known), generated, low) for make in (remembered, lent))
    assert (own - generated)[60:, high].abs().max() < 0.05
    assert (other - generated)[60:, high].mean() > 0.5


def test_a_chunk_does_not_depend_on_those_before() -> None:
    known, other = frames(60), frames(60, seed=1)
    cutoffs_hz, recall = torch.full((60,), CUTOFF), PairRecall(lent(ending(known), END), MEL)
    first = recall.blend(known - 1.0, narrow(known), cutoffs_hz)
    recall.blend(other, narrow(other), cutoffs_hz)
    assert torch.equal(recall.blend(known - 1.0, narrow(known), cutoffs_hz), first)


def test_a_chunk_of_silence_is_left_alone() -> None:
    silent = torch.full((60, len(HZ)), LOG_FLOOR)
    made = blended(lent(ending(frames(60)), END), silent, silent)
    assert (made - silent).abs().max() < 0.01
