"""Laws of the encoder's strength: a share by the cutoff, all of it where a part has highs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lily.config.presets import load_config
from lily.dsp.cutoffs import Cutoffs
from lily.inference.engine import InferenceEngine
from lily.inference.generate import Variant, variants_of
from lily.inference.options import UpsampleOptions
from lily.model.global_encoder import GlobalContext

TABLE = ((4_000, 1.0), (16_000, 0.5))


@pytest.fixture(scope="module")
def runtime():
    runtime = InferenceEngine(load_config("lily-mini"), device="cpu").runtime
    return replace(runtime, settings=replace(runtime.settings, context_strength=TABLE))


@pytest.fixture(scope="module")
def context(runtime) -> GlobalContext:
    mels = runtime.mel.config.n_mels
    with torch.inference_mode():
        return runtime.model.unet.global_encoder(torch.zeros(1, 1, mels, 160))


@pytest.mark.parametrize(
    ("cutoff_hz", "share"),
    [(2_000.0, 1.0), (4_000.0, 1.0), (8_000.0, 0.75), (16_000.0, 0.5), (20_000.0, 0.5)],
)
def test_the_strength_is_linear_in_octaves_of_the_cutoff_and_flat_outside(
    runtime, context, cutoff_hz, share
):
    plain = runtime.model.unet.context_cache(context)
    cache = runtime.context_cache(context, Cutoffs.constant(cutoff_hz))
    for scaled, value in zip(cache.values, plain.values, strict=True):
        torch.testing.assert_close(scaled, share * value)
    assert all(map(torch.equal, cache.keys, plain.keys))


@pytest.mark.parametrize(("other_hz", "share"), [(22_000.0, 1.0), (16_500.0, 0.5)])
@pytest.mark.parametrize("by", ["time", "channel"])
def test_a_part_counts_in_full_only_where_it_has_highs_that_others_lack(
    runtime, context, by, other_hz, share
):
    cutoffs = Cutoffs((0, 48_000), (16_000.0, other_hz))
    if by == "channel":
        cutoffs = Cutoffs.of_channels([Cutoffs.constant(hz) for hz in (16_000.0, other_hz)])
    plain = runtime.model.unet.context_cache(context)
    cache = runtime.context_cache(context, cutoffs)
    torch.testing.assert_close(cache.values[0], share * plain.values[0])


def test_without_a_table_it_counts_in_full(runtime, context):
    older = replace(runtime, settings=replace(runtime.settings, context_strength=()))
    cache = older.context_cache(context, Cutoffs.constant(12_000.0))
    assert all(map(torch.equal, cache.values, older.model.unet.context_cache(context).values))


def variants(runtime, context, *, plain: bool) -> list[Variant]:
    return variants_of(
        runtime, context, (False, True), UpsampleOptions(), Cutoffs.constant(8_000.0), plain
    )


def test_only_the_encoder_steadies_and_recalls_and_a_plain_profile_corrects_nothing(
    runtime, context
):
    off, on = variants(runtime, context, plain=False)
    assert off.level and on.level and on.steady and not off.steady and not off.context
    off, on = variants(runtime, context, plain=True)
    assert not (off.level or on.level or off.steady or on.steady)


def test_an_untrained_encoder_steadies_nothing(runtime, context, monkeypatch):
    monkeypatch.setattr(type(runtime.model), "encoder_is_trained", False)
    _, on = variants(runtime, context, plain=False)
    assert on.level and not on.steady and not on.recall
