"""What the networks get of a recording: its level is theirs, and it ends at the cutoff."""

from __future__ import annotations

import pytest
import soundfile
import torch

from lily.config.presets import MelConfig
from lily.dsp.filters import filter_whole, highpass_kernel
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.inference.analyze import analyze, resampled_blocks
from lily.inference.features import FeatureExtractor
from lily.inference.options import UpsampleOptions

PEAK, CUTOFF = 0.5, 6000.0
INNER = slice(5, -5)  # frames: the recording's ends are mirrored, which adds something to all bins


@pytest.fixture(scope="module")
def mel() -> LogMel:
    return LogMel(MelConfig())


@pytest.fixture
def features(mel, tmp_path):
    """``features(samples (C, T))`` at 48 kHz: its extractor, and its blocks."""

    def make(samples):
        path = tmp_path / "a.wav"
        soundfile.write(path, samples.T.numpy(), 48_000, subtype="FLOAT")
        analysis = analyze(path, 48_000, UpsampleOptions(cutoff_hz=CUTOFF))
        return FeatureExtractor(mel, analysis, PEAK), lambda: resampled_blocks(path, 48_000)

    return make


def together(frames) -> torch.Tensor:
    return torch.cat(list(frames), dim=1)


def test_log_mels_have_the_networks_level_and_the_frames_that_were_announced(features, mel, randn):
    samples = 0.02 * randn(2, 100_001) + 0.3
    extractor, blocks = features(samples)
    log_mels = together(extractor.log_mels(blocks()))
    assert log_mels.shape == (2, extractor.frames, 256) == (2, 209, 256)
    centred = samples - samples.mean(dim=1, keepdim=True)
    expected = mel(centred * PEAK / centred.abs().max())
    known = mel.first_bin_above(0.9 * CUTOFF)
    assert (log_mels - expected)[:, INNER, :known].abs().max() < 1e-3


def test_nothing_above_the_cutoff_reaches_a_network(features, mel, randn):
    samples = 0.1 * randn(1, 96_000)
    above = filter_whole(samples, highpass_kernel(1.1 * CUTOFF, 1.2 * CUTOFF, 48_000))
    extractor, blocks = features(samples)
    first = mel.first_bin_above(1.3 * CUTOFF)
    log_mels = list(extractor.log_mels(blocks()))
    read = torch.cat(list(extractor.encoder_log_mels(log_mels, marked=False)))[None]
    for frames in (together(log_mels), read):
        assert frames[:, INNER, first:].max() < LOG_FLOOR + 0.5
    assert mel(above)[:, INNER, first:].min() > LOG_FLOOR + 2.0


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [
        (1.0, 1.0, 1.0),
        (1.0, -1.0, 1.0),  # a mix of the samples would be silence
        (1.0, -0.5, 0.625**0.5),
        (1.0, 0.0, 0.5**0.5),
    ],
)
def test_the_encoder_gets_the_mean_of_the_channels_power(features, randn, left, right, level):
    one = 0.1 * randn(1, 96_000)
    extractor, blocks = features(torch.cat([left * one, right * one]))
    read = torch.cat(list(extractor.encoder_log_mels(extractor.log_mels(blocks()), marked=False)))
    mono, of_mono = features(one)
    expected = together(mono.log_mels(of_mono()))[0] + torch.tensor(level).log()
    assert (read - expected)[INNER, 20:140].abs().max() < 1e-3
