"""What the context may and may not do to the U-Net."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lily.model.attention import (
    Conditioning,
    ContextCache,
    GlobalConditionedSpatialTransformer,
    RowContexts,
)
from lily.model.unet import UNet

STARTS = torch.tensor([0.0, 2.56], dtype=torch.float64)
STEPS = torch.tensor([999, 30])


@pytest.fixture
def x(randn):
    return randn(2, 8, 16, 16)


@pytest.fixture
def unet(make_model, wake) -> UNet:
    """A U-Net in which everything has an effect, the context included."""
    model = make_model()
    wake(model)
    return model.unet.requires_grad_(False)


def answer(unet, x, context, starts=STARTS, **options):
    conditioning = Conditioning(unet.context_cache(context), starts, **options)
    return unet(x, STEPS.repeat(len(x) // 2), conditioning)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def test_untrained_conditioning_changes_no_bit(make_model, wake, make_context, x):
    unet = make_model().unet
    wake(unet, asleep="global_out")
    with torch.inference_mode():
        off = unet(x, STEPS)
        assert torch.equal(off, answer(unet, x, make_context()))
        assert off.std() > 1e-3


def test_the_encoder_off_is_the_unet_that_has_none_bit_for_bit(make_model, wake, x):
    with_encoder = make_model().unet
    wake(with_encoder)
    plain = make_model(seed=5, use_global_encoder=False).unet
    shared = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in with_encoder.state_dict().items() if k in shared})
    with torch.inference_mode():
        assert torch.equal(with_encoder(x, STEPS), plain(x, STEPS))


def test_a_plugged_in_context_is_heard(unet, make_context, x):
    assert relative(answer(unet, x, make_context()), unet(x, STEPS)) > 1e-3


def test_two_recordings_give_two_answers(unet, make_context, x):
    assert relative(answer(unet, x, make_context()), answer(unet, x, make_context())) > 1e-3


def test_shuffling_tokens_in_time_changes_the_answer(unet, make_context, x):
    context = make_context()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    shuffled = replace(context, tokens=context.tokens[:, order])
    assert relative(answer(unet, x, context), answer(unet, x, shuffled)) > 1e-4


def test_the_order_in_which_timed_tokens_are_stored_does_not(unet, make_context, x):
    context = make_context()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    stored = replace(context, tokens=context.tokens[:, order], times=context.times[:, order])
    assert relative(answer(unet, x, context), answer(unet, x, stored)) < 1e-5


def test_where_a_chunk_lies_changes_the_answer(unet, make_context, x):
    context = make_context()
    moved = answer(unet, x, context, STARTS + 1.28)
    assert relative(answer(unet, x, context), moved) > 1e-4


@pytest.mark.parametrize("seconds", [-3.3, 0.777, 1000.0, 36_000.0])
def test_only_distances_in_time_matter(unet, make_context, x, seconds):
    context = make_context()
    later = replace(context, times=context.times + seconds)
    moved = answer(unet, x, later, STARTS + seconds)
    assert relative(answer(unet, x, context), moved) < 1e-5


def test_the_vector_has_no_time(transformer, make_context):
    keys, _ = transformer.keys_values(make_context())
    turning = 2 * transformer.pairs
    assert not keys[:, :, 0, :turning].any()
    assert keys[:, :, 0, turning:].any()


@pytest.fixture
def transformer(seeded, wake) -> GlobalConditionedSpatialTransformer:
    """One transformer of 16 channels with two query bands."""
    layer = seeded(
        lambda: GlobalConditionedSpatialTransformer(
            16, 8, 1, 0.0, context_dim=32, bands=2, stride=1, index=0
        )
    )
    wake(layer)
    return layer.requires_grad_(False)


def test_an_answer_is_one_value_for_each_column_and_band(transformer, make_context, randn):
    x = randn(2, 16, 4, 8)
    keys, values = transformer.keys_values(make_context())
    cache = ContextCache((keys,), (values,), 0.08, None)
    added = transformer(x, Conditioning(cache, STARTS)) - transformer(x)
    bands = added.unflatten(3, (2, 4))
    torch.testing.assert_close(bands, bands[..., :1].expand_as(bands), atol=1e-5, rtol=0)
    assert (bands[:, :, :, 0] - bands[:, :, :, 1]).abs().max() > 1e-4
    assert (bands[:, :, 0] - bands[:, :, 1]).abs().max() > 1e-4


def test_rows_without_context_do_not_notice_it(unet, make_context, x):
    both = torch.cat([x, x])
    off = unet(both, STEPS.repeat(2))
    guided = answer(unet, both, make_context())
    assert torch.equal(guided[2:], off[2:])
    assert relative(guided[:2], off[:2]) > 1e-3


def test_chosen_rows_are_answered_as_leading_rows_are(unet, make_context, x):
    context = make_context(rows=2)
    leading = answer(unet, torch.cat([x, x]), context)
    rows = torch.tensor([2, 3])
    chosen = answer(unet, torch.cat([x, x]), context, rows=rows)
    assert relative(leading[:2], chosen[2:]) < 1e-5
    assert torch.equal(chosen[:2], leading[2:])


def test_selected_recordings_answer_their_own_rows(unet, make_context, x):
    contexts = make_context(rows=3)
    cache = unet.context_cache(contexts).select(torch.tensor([2, 0]))
    together = unet(x, STEPS, Conditioning(cache, STARTS))
    for row, recording in enumerate([2, 0]):
        alone = replace(
            contexts,
            vector=contexts.vector[recording, None],
            tokens=contexts.tokens[recording, None],
            times=contexts.times[recording, None],
        )
        expected = unet(
            x[row, None],
            STEPS[row, None],
            Conditioning(unet.context_cache(alone), STARTS[row, None]),
        )
        assert relative(expected, together[row, None]) < 1e-5


def test_padding_tokens_are_not_attended_to(unet, make_context, x):
    context = make_context()
    valid = (torch.arange(60) < 40)[None]
    garbage = torch.where(valid[..., None], context.tokens, 1e3)
    padded = answer(unet, x, replace(context, tokens=garbage, valid=valid))
    cut = replace(context, tokens=context.tokens[:, :40], times=context.times[:, :40])
    assert relative(answer(unet, x, cut), padded) < 1e-5


@pytest.mark.parametrize("tokens", [1, 14, 15, 16, 60])
def test_padding_keys_are_not_attended_to(unet, make_context, randn, tokens):
    context = make_context(1)
    context = replace(context, tokens=context.tokens[:, :tokens], times=context.times[:, :tokens])
    cache, module = unet.context_cache(context), next(unet.conditioned())
    keys, values = module.keys_values(context)
    assert keys.shape[2] == 1 + tokens and cache.keys[0].shape[2] % 16 <= 1
    queries = randn(2, *keys.shape[1:2], 20, keys.shape[3])
    scores = queries @ keys.transpose(2, 3) / keys.shape[3] ** 0.5
    expected = scores.softmax(-1) @ values
    torch.testing.assert_close(cache.attend(0, queries), expected, atol=1e-5, rtol=0)


def test_keys_and_values_are_made_once_and_used_at_every_step(unet, make_context, x):
    made = []
    hooks = [
        layer.register_forward_hook(lambda *_: made.append(1))
        for module in unet.conditioned()
        for layer in (module.global_proj, module.global_k, module.global_v)
    ]
    hooks.append(unet.global_encoder.register_forward_hook(lambda *_: made.append(1)))
    cache = unet.context_cache(make_context())
    assert len(made) == 3 * len(list(unet.conditioned()))
    for start in (0.0, 0.64, 1.28):
        for step in (999, 499):
            unet(x, torch.tensor([step, step]), Conditioning(cache, STARTS + start))
    assert len(made) == 3 * len(list(unet.conditioned()))
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_scaled_cache_answers_a_share(unet, make_context, randn, share):
    cache = unet.context_cache(make_context(1))
    queries = randn(1, cache.keys[0].shape[1], 20, cache.keys[0].shape[3])
    scaled = cache.scaled(share).attend(0, queries)
    assert torch.equal(scaled, share * cache.attend(0, queries))


def test_chunks_of_one_recording_read_the_bits_that_each_would_alone(unet, make_context, randn):
    cache = unet.context_cache(make_context(1))
    heads, width = cache.keys[0].shape[1], cache.keys[0].shape[3]
    queries = randn(3, heads, 20, width)
    together = RowContexts((cache,) * 3).attend(0, queries)
    alone = RowContexts((cache, replace(cache), replace(cache))).attend(0, queries)
    assert torch.equal(together, alone)


def test_the_same_shapes_give_the_same_bits_whatever_the_other_rows_hold(unet, make_context, x):
    context = make_context()
    first = answer(unet, x, context)
    other = x.clone()
    other[1] = 3.0
    assert torch.equal(first[0], answer(unet, other, context)[0])
