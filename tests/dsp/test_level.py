"""Laws of the level correction: its table, what lies between, silence, cutoffs by frame."""

from __future__ import annotations

import math

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.level import FULL_FROM, LEVELS_DB, NEPER_DB, LevelCorrection
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz

MEL = LogMel(MelConfig())
HZ = bin_centres_hz(MEL)
TABLE = [(4_000.0, (8.0, 4.0, 0.0, -4.0, 2.0)), (16_000.0, (0.0, 0.0, 0.0, 4.0, 6.0))]
LOUD = torch.full((1, len(HZ)), -2.0)


def corrected(top_db: float, cutoff_hz: float, generated: torch.Tensor = LOUD) -> float:
    """The correction in dB for a recording whose top lies ``top_db`` above the floor."""
    low = torch.full((1, len(HZ)), LOG_FLOOR + top_db / NEPER_DB)
    made = LevelCorrection(TABLE, (), MEL).apply(generated, low, torch.tensor([cutoff_hz]))
    assert torch.allclose(made - made[:, :1], generated - generated[:, :1], atol=1e-5)
    return float((made - generated)[0, 0]) * NEPER_DB


@pytest.mark.parametrize("column", range(len(LEVELS_DB)))
def test_at_its_own_levels_and_cutoffs_the_table_is_followed(column: int) -> None:
    for cutoff_hz, decibels in TABLE:
        assert corrected(LEVELS_DB[column], cutoff_hz) == pytest.approx(decibels[column], abs=1e-3)


def test_between_them_it_is_linear_in_db_and_octaves_and_flat_outside() -> None:
    middle = (LEVELS_DB[0] + LEVELS_DB[1]) / 2
    assert corrected(middle, 4_000.0) == pytest.approx(6.0, abs=1e-3)
    assert corrected(middle, 8_000.0) == pytest.approx(3.0, abs=1e-3)  # half-way in octaves
    assert corrected(0.0, 2_000.0) == pytest.approx(8.0, abs=1e-3)
    assert corrected(200.0, 22_000.0) == pytest.approx(6.0, abs=1e-3)


def test_silence_stays_silent_and_near_it_less_is_added() -> None:
    floor = torch.full((1, len(HZ)), LOG_FLOOR)
    assert corrected(LEVELS_DB[0], 4_000.0, floor) == 0.0
    half = corrected(LEVELS_DB[0], 4_000.0, floor + FULL_FROM / 2)
    assert half == pytest.approx(4.0, abs=1e-3)


def test_only_the_top_below_the_cutoff_is_read() -> None:
    low = torch.full((1, len(HZ)), LOG_FLOOR)
    low[:, HZ < 1_500] = 5.0  # a loud bass under a silent top
    made = LevelCorrection(TABLE, (), MEL).apply(LOUD, low, torch.tensor([4_000.0]))
    assert float((made - LOUD)[0, -1]) * NEPER_DB == pytest.approx(8.0, abs=1e-3)


def test_each_frame_has_its_own_cutoff_and_level() -> None:
    levels, cutoffs_hz = [12.0, 84.0, 32.0], [4_000.0, 16_000.0, 16_000.0]
    low = torch.stack([torch.full((len(HZ),), LOG_FLOOR + db / NEPER_DB) for db in levels])
    made = LevelCorrection(TABLE, (), MEL).apply(LOUD.repeat(3, 1), low, torch.tensor(cutoffs_hz))
    assert ((made - LOUD)[:, 0] * NEPER_DB).tolist() == pytest.approx([8.0, 6.0, 0.0], abs=1e-3)


def test_a_cutoff_below_the_first_bin_is_treated_as_loud() -> None:
    made = LevelCorrection(TABLE, (), MEL).apply(LOUD, LOUD, torch.tensor([10.0]))
    assert float((made - LOUD)[0, 0]) == pytest.approx(2.0 / (20 / math.log(10)), abs=1e-5)


COLOUR = [(8_000.0, (0.0, 2.0, 4.0, -2.0, 0.0, 6.0))]


def test_a_colour_has_six_places_equally_spaced_in_octaves_and_is_flat_below_the_cutoff() -> None:
    for cutoff_hz in (2_000.0, 8_000.0):
        made = LevelCorrection((), COLOUR, MEL).apply(LOUD, LOUD, torch.tensor([cutoff_hz]))
        change = (made - LOUD)[0] * NEPER_DB
        assert (change[cutoff_hz >= HZ] == 0.0).all()
        for place, decibels in enumerate(COLOUR[0][1]):
            at = cutoff_hz * (24_000 / cutoff_hz) ** (place / 5)
            nearest = int((HZ - at).abs().argmin())
            assert float(change[nearest]) == pytest.approx(decibels, abs=0.8)


def test_a_colour_is_interpolated_between_cutoffs_and_joins_the_level() -> None:
    colours = [(4_000.0, (2.0,) * 6), (16_000.0, (6.0,) * 6)]
    low = torch.full((1, len(HZ)), LOG_FLOOR + LEVELS_DB[1] / NEPER_DB)
    made = LevelCorrection(TABLE, colours, MEL).apply(LOUD, low, torch.tensor([8_000.0]))
    assert (made - LOUD).mul(NEPER_DB).numpy() == pytest.approx(2.0 + 4.0, abs=1e-3)
    silence = torch.full((1, len(HZ)), LOG_FLOOR)
    kept = LevelCorrection((), colours, MEL).apply(silence, low, torch.tensor([8_000.0]))
    assert torch.equal(kept, silence)
