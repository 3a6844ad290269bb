"""Laws of the streaming vocoder: its blocks are one signal, however the frames arrive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lily.diffusion.noise import NoiseField
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.mel import LOG_FLOOR
from lily.dsp.stereo_image import StereoImage
from lily.inference.vocode import VOCODER_FRAMES, StreamingVocoder
from lily.model.vocoder import HALO

HOP, MELS, SEED = 8, 4, 5
FRAMES = 2 * VOCODER_FRAMES + 100  # three blocks, the last one short


class NoiseVocoder:
    """Plays back its white noise, scaled by the mean log-mel of ``margin`` frames on each side."""

    uses_noise = True
    uses_recording = False

    def __init__(self, margin: int = HALO) -> None:
        self.margin = margin
        self.lengths: list[int] = []  # frames of its calls

    def __call__(self, log_mel: Tensor, white: Tensor) -> Tensor:
        self.lengths.append(log_mel.shape[-1])
        level = log_mel.mean(dim=1, keepdim=True)  # (1, 1, T)
        size, padding = 2 * self.margin + 1, self.margin
        seen = torch.nn.functional.avg_pool1d(level, size, 1, padding, count_include_pad=False)
        return seen[:, 0].repeat_interleave(HOP, dim=1) * white


ONE = StereoImage.of(torch.ones(1, 1))


def streaming(samples: int, margin: int = HALO) -> StreamingVocoder:
    noise = NoiseField(SEED, 1, 1)
    cpu, cutoffs = torch.device("cpu"), Cutoffs.constant(4000.0)
    return StreamingVocoder(
        NoiseVocoder(margin), noise, samples, HOP, cpu, torch.float32, cutoffs, ONE
    )


def vocoded(frames: Tensor, samples: int, sizes: list[int]) -> Tensor:
    vocoder, blocks = streaming(samples), []
    for part in frames.split(sizes, dim=1):
        blocks += vocoder.push(part)
    return torch.cat([*blocks, *vocoder.flush()], dim=1)


def whole(frames: Tensor, margin: int = HALO) -> Tensor:
    """The same in one call over all frames, with silence on both sides."""
    padded = torch.nn.functional.pad(frames, (0, 0, HALO, HALO), value=LOG_FLOOR)
    white = NoiseField(SEED, 1, 1).white(-HALO * HOP, padded.shape[1] * HOP)
    made = [NoiseVocoder(margin)(channel.T[None], white[None])[0] for channel in padded]
    return torch.stack(made)[:, HALO * HOP : -HALO * HOP]


def test_blocks_are_what_one_call_over_the_whole_recording_makes(randn):
    frames = randn(2, FRAMES, MELS)
    made = vocoded(frames, FRAMES * HOP, [FRAMES])
    # A block's noise lies at its own place: where one block ends and the next begins as well.
    torch.testing.assert_close(made, whole(frames), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 4, 16])
@pytest.mark.parametrize("count", [1, 512, 513, 1024, 1100, 1535])
def test_a_vocoder_gets_its_margin_of_silence_before_and_after(randn, count, parts):
    margin, frames = 8, randn(1, count, MELS)
    vocoder = streaming(count * HOP, margin)
    vocoder._parts = parts  # as after memory ran out
    made = torch.cat([*vocoder.push(frames), *vocoder.flush()], dim=1)
    torch.testing.assert_close(made, whole(frames, margin), rtol=1e-5, atol=1e-5)
    if parts == 1:
        blocks, spared = -(-count // VOCODER_FRAMES), HALO - margin
        expected = [VOCODER_FRAMES + 2 * HALO] * blocks
        expected[0] -= spared
        expected[-1] -= spared
        assert vocoder.vocoder.lengths == expected


@pytest.mark.parametrize("sizes", [[1] * 3 + [FRAMES - 3], [511, 1, 0, FRAMES - 512], [700, 424]])
def test_the_samples_do_not_depend_on_how_the_frames_arrive(randn, sizes):
    frames = randn(1, FRAMES, MELS)
    assert torch.equal(
        vocoded(frames, FRAMES * HOP, sizes), vocoded(frames, FRAMES * HOP, [FRAMES])
    )


@pytest.mark.parametrize("samples", [1, 4_095, 4_096, 4_097, FRAMES * HOP - 3, FRAMES * HOP])
def test_the_output_ends_with_the_recording(randn, samples):
    frames = randn(1, FRAMES, MELS)
    made = vocoded(frames, samples, [FRAMES])
    assert made.shape == (1, samples)
    assert torch.equal(made, vocoded(frames, FRAMES * HOP, [FRAMES])[:, :samples])


def test_no_more_than_a_block_and_its_halo_is_held(randn):
    vocoder = streaming(10 * FRAMES * HOP)
    for _ in range(10):
        list(vocoder.push(randn(1, FRAMES, MELS)))
        assert vocoder._buffer.shape[1] < VOCODER_FRAMES + 2 * HALO
