"""Controls and judges: the oracle has the right envelope, the classifier its known extremes."""

from __future__ import annotations

import pytest
import torch

from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.errors import InputError
from lily.evaluation.envelope_controls import envelope_control
from lily.evaluation.judges import opinion
from lily.evaluation.metrics import distances
from lily.evaluation.realism import Pair, area_under_curve, auc, patches
from lily.evaluation.settings import check_judges, installed_judges
from lily.evaluation.spectra import Spectra
from lily.evaluation.tones import COUNT, harmonic_tones


def noise(seconds: float = 2.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, round(seconds * 48_000), generator=generator)


def test_the_oracle_has_the_envelope_and_the_smeared_control_loses_its_attacks():
    gate = (torch.arange(96_000) // 4_800 % 4 == 0).float() + 0.01  # 0.1 s of every 0.4 s
    reference = noise() * gate
    low = filter_whole(reference, lowpass_kernel(7_600, 8_400, 48_000))
    oracle, smeared = (
        distances(reference, envelope_control(name, reference, low, 8_000.0, 1), 8_500.0)
        for name in ("oracle", "smeared")
    )
    assert oracle.envelope_db < 2.5 < 4.0 < smeared.envelope_db
    assert oracle.lsd_hf < smeared.lsd_hf
    assert oracle.lsd_lf < 0.3


def test_the_area_under_the_curve_has_its_known_values():
    values = torch.arange(10.0)
    assert area_under_curve(values + 100, values) == 1.0
    assert area_under_curve(values, values + 100) == 0.0
    assert area_under_curve(values, values) == 0.5
    assert area_under_curve(torch.tensor([1.0, 3.0]), torch.tensor([2.0])) == 0.5


def pairs(gain: float) -> list[Pair]:
    made = []
    for place in range(4):
        reference, other = Spectra(noise(1.0, place)), noise(1.0, 10 + place)
        highs = other - filter_whole(other, lowpass_kernel(8_000, 9_000, 48_000))
        made.append(patches(reference, Spectra(other + (gain - 1) * highs), 8_000.0, str(place)))
    return made


def test_what_differs_is_told_apart_and_what_does_not_is_not(monkeypatch):
    monkeypatch.setattr("lily.evaluation.realism.STEPS", 30)
    monkeypatch.setattr("lily.evaluation.realism.BATCH", 16)
    assert auc(pairs(gain=2.0)) > 0.95
    assert auc(pairs(gain=1.0)) == pytest.approx(0.5, abs=0.15)
    assert auc(pairs(gain=1.0)[:3]) is None


def test_patches_need_sound():
    silence = Spectra(torch.zeros(1, 4_000))
    assert patches(silence, silence, 8_000.0, "a") is None


def test_judges_are_known_and_installed_or_refused():
    with pytest.raises(InputError, match="zimtohrli or visqol"):
        check_judges(("peaq",))
    check_judges(installed_judges())


@pytest.mark.skipif("zimtohrli" not in installed_judges(), reason="needs the evaluation extra")
def test_zimtohrli_prefers_the_recording_to_its_low_passed_self():
    reference = noise()
    low = filter_whole(reference, lowpass_kernel(3_900, 4_100, 48_000))
    assert opinion("zimtohrli", reference, reference) == pytest.approx(5.0, abs=0.01)
    assert opinion("zimtohrli", reference, low) < 3.0


@pytest.mark.slow
def test_synthetic_tones_are_as_many_and_as_loud_as_they_should_be():
    made = dict(harmonic_tones())
    assert len(made) == COUNT
    assert all(0.49 < float(x.abs().max()) < 0.51 for x in made.values())
