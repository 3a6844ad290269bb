"""The encoder reads a recording the same way whole, in blocks, or padded in a batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import scipy.fft
import torch

from lily.config.presets import GlobalEncoderConfig
from lily.dsp.mel import LOG_FLOOR
from lily.dsp.unknown import UNKNOWN
from lily.model.global_encoder import (
    CEPSTRAL_FALL,
    STRIDE,
    ContextReader,
    GlobalAudioEncoder,
    token_loss,
)

SMALL = {"channels": (4, 8, 8), "hidden": 16, "layers": 2, "heads": 2, "feed_forward": 32}


@pytest.fixture(scope="module")
def encoder_of(seeded):
    def make(**changes) -> GlobalAudioEncoder:
        config = GlobalEncoderConfig(**{**SMALL, **changes})
        return seeded(lambda: GlobalAudioEncoder(config, context_dim=12))

    return make


@pytest.fixture(scope="module")
def encoder(encoder_of) -> GlobalAudioEncoder:
    return encoder_of()


def recording(randn, frames: int) -> torch.Tensor:
    """A log-mel (frames, 256) that wanders as music does."""
    return randn(frames, 256) * 2 + randn(1, 256) - 6


def whole(encoder, log_mel, **options):
    with torch.inference_mode():
        return encoder(log_mel.T[None, None], **options)


def in_blocks(encoder, log_mel, block=37):
    reader = ContextReader(encoder, len(log_mel))
    for part in log_mel.split(block):
        reader.push(part)
    return reader.finish()


def assert_same(a, b):
    torch.testing.assert_close(a.vector, b.vector, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.tokens, b.tokens, atol=1e-5, rtol=1e-5)
    assert torch.equal(a.times, b.times)
    assert a.spacing == b.spacing


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 100, 257, 768, 1023, 1024, 1025, 1290, 2048, 5000])
def test_blocks_with_a_halo_give_what_one_pass_gives(encoder, randn, frames):
    log_mel = recording(randn, frames)
    assert_same(whole(encoder, log_mel), in_blocks(encoder, log_mel))


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 101])
def test_what_lies_outside_is_zero_exactly_as_a_convolution_pads(encoder, randn, frames):
    log_mel = recording(randn, frames).T[None, None]
    x = log_mel + 11.512925464970229  # the floor of the log-mel reads as zero
    x = torch.nn.functional.pad(x, (0, frames % 2))  # cells of two frames
    x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    for convolution, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = torch.nn.functional.silu(norm(convolution(x)))
    plain = encoder.project(x.flatten(1, 2).transpose(1, 2))
    features = encoder.features(log_mel, 0, torch.tensor([frames]))
    assert features.shape[1] == -(-frames // STRIDE)
    torch.testing.assert_close(features, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 999, 5000])
def test_how_the_recording_arrives_does_not_matter(encoder, randn, block):
    log_mel = recording(randn, 1100)
    assert_same(in_blocks(encoder, log_mel), in_blocks(encoder, log_mel, block))


@pytest.mark.parametrize("frames", [129, 1025, 3001])
def test_pooling_before_the_transformer_is_the_same_in_blocks(encoder_of, randn, frames):
    encoder = encoder_of(tokens_in=16, tokens_out=5)
    log_mel = recording(randn, frames)
    context = whole(encoder, log_mel)
    assert context.tokens.shape[1] <= 5
    assert_same(context, in_blocks(encoder, log_mel))


def test_a_padded_batch_gives_what_each_recording_gives_alone(encoder, randn):
    lengths = [1000, 613, 8, 1]
    padded = randn(4, 1000, 256) * 50  # what lies past a recording's end must not matter
    for row, length in enumerate(lengths):
        padded[row, :length] = recording(randn, length)
    with torch.inference_mode():
        batch = encoder(padded.transpose(1, 2)[:, None], torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = whole(encoder, padded[row, :length])
        count = alone.tokens.shape[1]
        torch.testing.assert_close(batch.vector[row], alone.vector[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch.tokens[row, :count], alone.tokens[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(batch.times[row, :count], alone.times[0])
        assert batch.valid[row].tolist() == [place < count for place in range(125)]


@pytest.mark.parametrize("frames", [1, 8, 1003, 1024, 1025, 8192, 8193, 20_001])
def test_tokens_are_at_most_128_and_know_their_true_centres(encoder, randn, frames):
    context = in_blocks(encoder, recording(randn, frames), block=1024)
    count = context.tokens.shape[1]
    assert count <= 128
    width = round(context.spacing * 100)  # frames
    assert width % STRIDE == 0
    assert (count - 1) * width < frames <= count * width
    edges = [min(i * width, frames) for i in range(count + 1)]
    centres = [(a + b) / 200 for a, b in zip(edges, edges[1:], strict=False)]
    torch.testing.assert_close(context.times[0], torch.tensor(centres, dtype=torch.float64))


def test_at_most_1024_tokens_reach_the_transformer(encoder):
    for frames in [1, 8191, 8192, 8193, 16_384, 16_385, 100_000, 360_000, 8_640_000]:
        tokens = -(-frames // STRIDE)
        factor = encoder.pooling_for(frames)
        assert -(-tokens // factor) <= 1024
        assert factor == 1 or -(-tokens // (factor - 1)) > 1024  # no coarser than it must be


def test_the_reader_holds_no_more_for_a_longer_recording(encoder):
    def held(frames: int) -> int:
        reader = ContextReader(encoder, frames)
        for _ in range(3):
            reader.push(torch.zeros(1024, 256))
        return sum(t.numel() for t in vars(reader).values() if isinstance(t, torch.Tensor))

    assert held(8_640_000) <= held(8192) * 1.01  # a day against 82 seconds


def test_asked_for_pooling_makes_tokens_coarser(encoder, randn):
    log_mel = recording(randn, 640)
    fine, coarse = whole(encoder, log_mel), whole(encoder, log_mel, pooling=4)
    assert (fine.tokens.shape[1], coarse.tokens.shape[1]) == (80, 20)
    assert coarse.spacing == pytest.approx(4 * fine.spacing)
    assert coarse.times[0, 0] == pytest.approx(0.16)


def test_tokens_change_where_the_recording_changes_and_how(encoder, randn):
    log_mel = recording(randn, 800)
    quiet = log_mel.clone()
    quiet[400:440] = -11.5
    features = [encoder.features(x.T[None, None], 0, torch.tensor([800])) for x in (log_mel, quiet)]
    moved = (features[0] - features[1]).abs().amax(dim=(0, 2)) > 1e-6
    # Token n sees frames 8 n - 14 to 8 n + 15.
    assert moved.nonzero().flatten().tolist() == [*range(49, 57)]


def test_one_unknown_bin_is_not_read_as_a_silent_one(encoder):
    silent = torch.full((160, 256), LOG_FLOOR)
    marked = silent.clone()
    marked[:, 200] = UNKNOWN  # averaged with its silent neighbour
    a, b = (encoder.features(x.T[None, None], 0, torch.tensor([160])) for x in (silent, marked))
    assert (a - b).abs().amax(-1).min() > 1e-3


def test_where_in_frequency_things_are_is_not_averaged_away(encoder, randn):
    log_mel = recording(randn, 160)
    flipped = log_mel.flip(1)
    a, b = whole(encoder, log_mel), whole(encoder, flipped)
    assert (a.tokens - b.tokens).abs().max() > 1e-3


def test_order_in_time_matters_to_the_transformer(encoder, randn):
    features = randn(1, 20, 16)
    counts, lengths = torch.ones(1, 20), torch.tensor([160])
    straight = encoder.contextualise(features, counts, lengths, 1)
    turned = encoder.contextualise(features.flip(1), counts, lengths, 1)
    assert (straight.tokens - turned.tokens.flip(1)).abs().max() > 1e-4


def test_the_first_second_is_read_as_the_hundredth_is(encoder, randn):
    # No position is stored: the same sound gives the same features at any place.
    sound = recording(randn, 320)
    silence = torch.full((10_000, 256), -11.512925464970229)
    early = torch.cat([silence[:160], sound, silence[:160]])
    late = torch.cat([silence, sound, silence[:160]])
    with torch.inference_mode():
        a, b = (encoder.features(x.T[None, None], 0, torch.tensor([len(x)])) for x in (early, late))
    torch.testing.assert_close(a[:, 20:60], b[:, 1250:1290], atol=1e-5, rtol=1e-5)


def loss_of(context, original, lengths=None):
    return token_loss(context, original[None], lengths)


def test_tokens_that_are_the_recordings_cepstra_have_no_loss(encoder, randn):
    original = recording(randn, 64)
    context = whole(encoder, original)  # 8 tokens of 8 frames
    flat = torch.linspace(*CEPSTRAL_FALL, 12)
    bands = torch.nn.functional.adaptive_avg_pool1d(original[None], 12)[0] - flat
    cepstra = torch.from_numpy(scipy.fft.dct(bands.double().numpy(), norm="ortho"))
    cepstra[:, 0] *= math.sqrt(2)  # scipy halves the power of the first, which is loudness
    spread = (10 / (1 + torch.arange(12))).clamp(min=0.33) * math.sqrt(12 / 64)
    tokens = (cepstra / spread).float().unflatten(0, (8, 8)).mean(1)[None]
    perfect = replace(context, tokens=tokens, vector=tokens.mean(1))
    assert loss_of(perfect, original) == pytest.approx(0, abs=1e-8)
    assert loss_of(replace(perfect, tokens=tokens.flip(1)), original) > 0.01


def test_what_lies_past_a_recordings_end_is_not_asked_for(encoder, randn):
    original, context = recording(randn, 100), whole(encoder, recording(randn, 100))
    lengths = torch.tensor([61])
    changed = original.clone()
    changed[61:] = 1e3
    assert loss_of(context, original, lengths) == loss_of(context, changed, lengths)
