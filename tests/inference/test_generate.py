"""Laws of generating: what the recording has is put back, and chunks join without a seam."""

from __future__ import annotations

import pytest
import torch

from lily.config.inference import GuidanceRange, InferenceConfig, StepsRange
from lily.config.presets import MelConfig
from lily.diffusion.noise import NoiseField
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.mel import LogMel
from lily.inference.generate import Chunker, Plan, Variant
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import PROFILES

MELS = 256
OPTIONS = UpsampleOptions(steps=2, sampler="ddim", guidance=1.0, seed=0)


@pytest.fixture(scope="module")
def mel() -> LogMel:
    return LogMel(MelConfig())


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
