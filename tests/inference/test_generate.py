"""Laws of generating: what the recording has is put back, and chunks join without a seam."""

from __future__ import annotations

import math

import pytest
import torch

from lily.config.inference import GuidanceRange, InferenceConfig, StepsRange
from lily.config.presets import MelConfig
from lily.diffusion.noise import NoiseField
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.inference.generate import Chunker, KnownBand, Plan, Variant
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import PROFILES

MELS = 256
OPTIONS = UpsampleOptions(steps=2, sampler="ddim", guidance=1.0, seed=0)


@pytest.fixture(scope="module")
def mel() -> LogMel:
    return LogMel(MelConfig())


def slaney_hz(mels: float) -> float:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    return 200 / 3 * mels if mels < 15 else 1000 * math.exp((mels - 15) * math.log(6.4) / 27)


def lower_edges_hz() -> list[float]:
    """Where each of 256 Slaney filters from 20 to 24,000 Hz begins."""
    first, last = 20 / (200 / 3), 15 + 27 * math.log(24) / math.log(6.4)
    return [slaney_hz(first + (last - first) * m / (MELS + 1)) for m in range(MELS)]


@pytest.mark.parametrize("cutoff_hz", [2_000.0, 4_000.0, 8_000.0, 12_000.0, 19_999.0, 20_000.0])
def test_the_known_band_ends_just_below_the_cutoff(mel, cutoff_hz):
    low, generated = torch.full((3, MELS), 1.0), torch.full((3, MELS), 2.0)
    restored = KnownBand(mel, Cutoffs.constant(cutoff_hz)).restore(
        generated, low, torch.full((3,), cutoff_hz)
    )
    known = int((restored[0] == 1.0).sum())
    assert (restored[:, :known] == 1.0).all() and (restored[:, known:] == 2.0).all()
    # Known are the filters that begin below 0.95 x the cutoff, to a bin of the spectrum.
    edge = lower_edges_hz()[known]
    assert 0.95 * cutoff_hz - 30 <= edge <= 0.95 * cutoff_hz + max(60, 0.015 * cutoff_hz)


def test_of_segments_only_a_full_one_is_known_whole(mel):
    cutoffs = Cutoffs((0, 480), (22_000.0, 4_000.0))
    low, generated = torch.full((2, MELS), 1.0), torch.full((2, MELS), 2.0)
    restored = KnownBand(mel, cutoffs).restore(generated, low, torch.tensor([22_000.0, 4_000.0]))
    assert (restored[0] == 1.0).all()
    assert 0 < (restored[1] == 1.0).sum() < MELS


def test_what_is_silent_in_the_recording_stays_silent(mel, randn):
    low, generated = randn(4, MELS), randn(4, MELS) + 5
    low[1] = LOG_FLOOR
    known = KnownBand(mel, Cutoffs.constant(4_000.0))
    restored = known.restore(generated.clone(), low, torch.full((4,), 4_000.0))
    assert (restored[1] == LOG_FLOOR).all()
    assert torch.equal(restored[0, -20:], generated[0, -20:])


def test_nothing_generated_falls_below_the_floor(mel, randn):
    generated = torch.full((2, MELS), LOG_FLOOR - 3)
    known = KnownBand(mel, Cutoffs.constant(4_000.0))
    restored = known.restore(generated, randn(2, MELS), torch.full((2,), 4_000.0))
    assert restored[:, -20:].min() == torch.tensor(LOG_FLOOR)


class Unchanged:
    """Puts nothing back."""

    def restore(self, generated, low, cutoffs_hz):
        return generated


def generator(frames: int, variants: int = 1, channels: int = 1) -> Chunker:
    preset = InferenceConfig(
        steps=StepsRange(default=2, min=1, max=9),
        guidance=GuidanceRange(default=1.0, min=1.0, max=9.0),
        samplers=("ddim",),
        sampler="ddim",
        chunk=16,
        overlap=8,
        fade=4,
    )
    plan = Plan.of(frames, PROFILES["lily"], preset, OPTIONS, (False,) * variants)
    cutoffs = Cutoffs.constant(4_000.0)
    return Chunker(
        plan, Unchanged(), NoiseField(0, 1, 1), [Variant()] * variants, cutoffs, channels, 3
    )


@pytest.mark.parametrize("frames", [1, 127, 128, 129, 500, 1_000])
def test_a_sampler_that_changes_nothing_gives_back_the_recording(randn, frames):
    made, log_mel = generator(frames, channels=2), randn(2, frames, 3)
    blended = []
    for part in log_mel.split(60, dim=1):
        made.append(part)
        for chunk, log_mels in made.chunks():
            for item in made.items(chunk, log_mels):
                made.add(item, 0, item.log_mel)
            list(made.blend(0))
            blended.append(made.take())
    assert made.complete
    torch.testing.assert_close(torch.cat(blended, dim=1), log_mel, rtol=0, atol=1e-5)


def test_chunks_are_blended_in_order_whatever_the_order_of_sampling(randn):
    log_mel = randn(1, 400, 3)
    outputs = []
    for order in (1, -1):
        made = generator(400)
        made.append(log_mel)
        items = [i for chunk, log_mels in made.chunks() for i in made.items(chunk, log_mels)]
        finished = []
        for item in items[::order]:
            made.add(item, 0, 2 * item.log_mel)
            finished += [index for index, _ in made.blend(0)]
        assert finished == list(range(len(items))) and len(items) > 3
        outputs.append(made.take())
    assert torch.equal(*outputs)


def test_only_what_every_variant_has_is_given_away(randn):
    made = generator(400, variants=2)
    made.append(randn(1, 400, 3))
    items = [i for chunk, log_mels in made.chunks() for i in made.items(chunk, log_mels)]
    made.add(items[0], 0, items[0].log_mel)
    list(made.blend(0))
    assert made.finished == 0 and made.take().shape == (2, 0, 3)
    made.add(items[0], 1, items[0].log_mel)
    list(made.blend(1))
    assert made.finished == 1 and made.take().shape == (2, made.plan.chunks[1].start * 8, 3)


def test_an_item_holds_its_own_log_mel_and_not_the_buffer_it_was_cut_from(randn):
    made = generator(10_000)
    made.append(randn(1, 10_000, 3))
    chunk, log_mels = next(made.chunks())
    (item,) = made.items(chunk, log_mels)
    assert item.log_mel.untyped_storage().nbytes() == 4 * item.log_mel.numel()
