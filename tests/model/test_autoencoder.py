"""Shapes of the autoencoder at every patch, and the patch itself."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import load_config
from lily.errors import ConfigError
from lily.model.autoencoder import AutoencoderKL, DiagonalGaussian, fold, unfold
from lily.model.layers import group_norm

VOCODER = {"kind": "istft", "n_mels": 32, "dim": 4, "intermediate": 4, "layers": 1, "n_fft": 512}
PLAIN = {"z_channels": 4, "mel_bins": 32, "ch": 4, "ch_mult": [1, 2, 2, 4], "num_res_blocks": 1}


@pytest.fixture
def autoencoder(seeded):
    def make(**changes) -> AutoencoderKL:
        config = {**PLAIN, **changes}
        return seeded(lambda: AutoencoderKL(ddconfig=config, embed_dim=6, vocoder_config=VOCODER))

    return make


@pytest.mark.parametrize("patch", [(1, 1), (4, 8), (2, 1), (1, 16)])
def test_unfolding_undoes_folding(randn, patch):
    x = randn(2, 1, 8, 32)
    folded = fold(x, patch)
    assert folded.shape == (2, patch[0] * patch[1], 8 // patch[0], 32 // patch[1])
    assert torch.equal(unfold(folded, patch), x)


def test_a_patch_of_one_changes_nothing(randn):
    x = randn(2, 1, 8, 32)
    assert torch.equal(fold(x, (1, 1)), x)


def test_a_folded_position_holds_its_own_cells(randn):
    x = randn(1, 1, 8, 32)
    assert set(fold(x, (4, 8))[0, :, 1, 2].tolist()) == set(x[0, 0, 4:8, 16:24].flatten().tolist())


@pytest.mark.parametrize(
    ("changes", "bins"),
    [({}, 4), ({"ch_mult": [1, 2], "patch": (4, 8), "mid_attention": False}, 2)],
)
def test_eight_mel_frames_are_one_latent_frame_and_back(autoencoder, randn, changes, bins):
    model = autoencoder(**changes)
    log_mel = randn(2, 1, 48, 32) - 6
    with torch.inference_mode():
        posterior = model.encode(log_mel)
        assert posterior.mean.shape == posterior.log_variance.shape == (2, 6, 6, bins)
        assert model.decode(posterior.mean).shape == log_mel.shape
    assert (model.config.frames, model.config.bins) == (8, bins)


@pytest.mark.parametrize("name", ["tiny", "lily-mini"])
def test_presets_latents_have_the_unets_shape(seeded, name, randn):
    params = load_config(name)["model"]["params"]
    model = seeded(lambda: AutoencoderKL(**params["first_stage_config"]["params"]))
    with torch.inference_mode():
        z = model.encode(randn(1, 1, 16, 256)).mean
    assert z.shape == (1, params["channels"], 2, model.config.bins)
    assert params["unet_config"]["params"]["in_channels"] == 2 * params["channels"]
    assert model.config.bins % 8 == 0  # the U-Net halves three times


def test_a_draw_is_mean_and_deviation_times_its_generators_noise(randn):
    posterior = DiagonalGaussian(randn(2, 3, 4, 5), randn(2, 3, 4, 5))
    noise = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(9))
    drawn = posterior.sample(torch.Generator().manual_seed(9))
    torch.testing.assert_close(drawn, posterior.mean + noise * (posterior.log_variance / 2).exp())


def test_divergence_is_zero_for_the_standard_normal_and_positive_elsewhere(randn):
    zero = torch.zeros(2, 3, 4, 5)
    assert DiagonalGaussian(zero, zero).kl() == 0
    assert DiagonalGaussian(randn(2, 3, 4, 5), zero).kl() > 0
    assert DiagonalGaussian(zero, randn(2, 3, 4, 5)).kl() > 0


def test_wild_log_variances_stay_finite(autoencoder, randn):
    model = autoencoder()
    with torch.inference_mode():
        posterior = model.encode(randn(1, 1, 8, 32) * 1e6)
    assert posterior.log_variance.min() >= -30
    assert posterior.log_variance.max() <= 20


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match="embed_din"):
        AutoencoderKL(ddconfig=PLAIN, embed_dim=4, vocoder_config=VOCODER, embed_din=4)


@pytest.mark.parametrize("width", [1, 3, 4, 8, 12, 24, 32, 48, 64, 96, 128, 640])
def test_groups_divide_every_width_and_are_audiosrs_32_where_they_can_be(width, randn):
    norm = group_norm(width, eps=1e-6)
    assert width % norm.num_groups == 0
    assert norm.num_groups == 32 or width % 32
    assert norm(randn(1, width, 4, 4)).isfinite().all()
