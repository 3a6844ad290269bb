"""Laws of what is constant over a collection: colour and end are taken over, movement is kept."""

from __future__ import annotations

import pytest
import torch

from lily.dsp.lent_colour import LOUD_DB, MOST, TAKEN, TRUSTED, coloured, silenced
from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LOG_FLOOR

FRAMES, BINS = 60, 32
HEARD = torch.ones(FRAMES, dtype=torch.bool)
NONE = torch.zeros(BINS, dtype=torch.bool)
ENDED = torch.arange(BINS) >= 20


def moving(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(FRAMES, BINS, generator=generator) - 5.0


@pytest.mark.parametrize("trust", [1.0, TRUSTED, 0.1, 0.0])
def test_the_mean_colour_follows_what_is_trusted_and_movement_stays(trust: float) -> None:
    generated, recalled = moving(0), moving(1) + torch.linspace(-2, 2, BINS)
    made = coloured(generated, recalled, torch.full_like(generated, trust), HEARD)
    left = (recalled - made).mean(0) / (recalled - generated).mean(0)
    expected = {1.0: 0.22, TRUSTED: 1 - MOST / 2, 0.1: 1.0, 0.0: 1.0}[trust]
    assert left.median() == pytest.approx(expected, abs=0.005)
    torch.testing.assert_close(made - made.mean(0), generated - generated.mean(0))


def test_bins_are_trusted_one_by_one() -> None:
    generated, recalled = moving(0), moving(1) + 2.0
    trust = torch.ones_like(generated) * ~ENDED
    made = coloured(generated, recalled, trust, HEARD)
    torch.testing.assert_close(made[:, ENDED], generated[:, ENDED])
    assert (made - generated)[:, ~ENDED].mean() > MOST


def test_frames_that_are_not_heard_say_nothing() -> None:
    generated, recalled, trust = moving(0), moving(1) + 1.0, torch.ones(FRAMES, BINS)
    heard = torch.arange(FRAMES) < 40
    other = torch.where(heard[:, None], recalled, recalled + 9.0)
    assert torch.equal(
        coloured(generated, recalled, trust, heard), coloured(generated, other, trust, heard)
    )
    assert coloured(generated, recalled, trust, ~HEARD) is generated
    assert silenced(generated, ENDED, ~HEARD) is generated


def test_silence_stays_silent() -> None:
    silent = torch.full((FRAMES, BINS), LOG_FLOOR)
    assert torch.equal(coloured(silent, moving(1), torch.ones_like(silent), HEARD), silent)
    assert torch.equal(silenced(silent, ENDED, HEARD), silent)
    made = coloured(moving(0), silent, torch.ones_like(silent), HEARD)
    assert silenced(made, ENDED, HEARD).min() >= LOG_FLOOR


@pytest.mark.parametrize("decibels", [1.0, LOUD_DB, 40.0])
def test_what_is_faint_above_the_end_is_taken_and_what_is_loud_is_left(decibels: float) -> None:
    generated = torch.full((FRAMES, BINS), LOG_FLOOR + decibels / NEPER_DB)
    made = silenced(generated, ENDED, HEARD)
    assert torch.equal(made[:, ~ENDED], generated[:, ~ENDED])
    taken_db = (generated - made)[:, ENDED].mean() * NEPER_DB
    share = {1.0: TAKEN, LOUD_DB: TAKEN / 2, 40.0: TAKEN / 12}[decibels]
    assert taken_db == pytest.approx(share * decibels, rel=0.02)


def test_where_nothing_has_ended_nothing_is_silenced() -> None:
    generated = moving(0)
    assert silenced(generated, NONE, HEARD) is generated
