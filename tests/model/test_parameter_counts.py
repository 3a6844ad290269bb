"""The published sizes and names, counted on the meta device: nothing is allocated."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lily.config.presets import load_config, preset_names
from lily.model.attention import SpatialTransformer
from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import LatentDiffusion


def on_meta(params: dict[str, Any]) -> LatentDiffusion:
    with torch.device("meta"):
        return LatentDiffusion(**params)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def with_encoder() -> LatentDiffusion:
    return on_meta(load_config("audiosr-basic")["model"]["params"])


@pytest.fixture(scope="module")
def without_encoder() -> LatentDiffusion:
    params = copy.deepcopy(load_config("audiosr-basic")["model"]["params"])
    params["unet_config"]["params"]["use_global_encoder"] = False
    return on_meta(params)


def test_the_unet_without_the_encoder_is_audiosrs(without_encoder):
    assert count(without_encoder.unet) == 258_195_088


def test_the_encoder_and_its_conditioning_have_their_published_sizes(with_encoder):
    unet = with_encoder.unet
    conditioning = {n: p for n, p in unet.named_parameters() if ".global_" in n}
    assert count(unet.global_encoder) == 549_280
    assert sum(p.numel() for p in conditioning.values()) == 29_152_000
    assert count(unet) == 287_896_368


def test_each_conditioned_transformer_costs_what_its_width_says(with_encoder):
    widths = []
    for module in with_encoder.unet.conditioned():
        own = sum(p.numel() for n, p in module.named_parameters() if n.startswith("global_"))
        width = module.global_q.in_features
        assert own == 4 * width**2 + 69 * width
        widths.append(width)
    assert sorted(widths) == [256] * 10 + [384] * 10 + [640] * 12
    indices = [module.index for module in with_encoder.unet.conditioned()]
    assert sorted(indices) == list(range(32))


def test_every_spatial_transformer_is_conditioned(with_encoder):
    every = [m for m in with_encoder.unet.modules() if isinstance(m, SpatialTransformer)]
    assert len(every) == len(list(with_encoder.unet.conditioned())) == 32


def test_autoencoder_and_vocoder_are_audiosrs(with_encoder):
    first_stage = with_encoder.first_stage_model
    assert count(first_stage.vocoder) == 190_281_889
    assert count(first_stage) - count(first_stage.vocoder) == 223_535_569


def test_the_encoder_adds_keys_and_changes_none(with_encoder, without_encoder):
    ours, theirs = with_encoder.state_dict(), without_encoder.state_dict()
    assert {k: v.shape for k, v in theirs.items()}.items() <= {
        k: v.shape for k, v in ours.items()
    }.items()
    added = ours.keys() - theirs.keys()
    assert added
    assert all("global_encoder." in key or ".global_" in key for key in added)


# AudioSR's checkpoint, sampled: one of each kind of layer, at its place and of its shape.
AUDIOSR_KEYS = {
    "model.diffusion_model.time_embed.0.weight": (512, 128),
    "model.diffusion_model.time_embed.2.bias": (512,),
    "model.diffusion_model.input_blocks.0.0.weight": (128, 32, 3, 3),
    "model.diffusion_model.input_blocks.1.0.in_layers.0.weight": (128,),
    "model.diffusion_model.input_blocks.1.0.emb_layers.1.weight": (128, 512),
    "model.diffusion_model.input_blocks.3.0.op.weight": (128, 128, 3, 3),
    "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (256, 128, 1, 1),
    "model.diffusion_model.input_blocks.4.1.proj_in.weight": (256, 256, 1, 1),
    "model.diffusion_model.input_blocks.4.2.norm.weight": (256,),
    "model.diffusion_model.input_blocks.5.1.transformer_blocks.0.attn1.to_q.weight": (256, 256),
    "model.diffusion_model.input_blocks.7.1.transformer_blocks.0.attn2.to_out.0.bias": (384,),
    "model.diffusion_model.input_blocks.11.2.transformer_blocks.0.ff.net.0.proj.weight": (
        5120,
        640,
    ),
    "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight": (640, 2560),
    "model.diffusion_model.middle_block.3.out_layers.3.weight": (640, 640, 3, 3),
    "model.diffusion_model.output_blocks.0.0.in_layers.2.weight": (640, 1280, 3, 3),
    "model.diffusion_model.output_blocks.2.3.conv.weight": (640, 640, 3, 3),
    "model.diffusion_model.output_blocks.8.3.conv.bias": (256,),
    "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (128, 256, 1, 1),
    "model.diffusion_model.out.2.weight": (16, 128, 3, 3),
    "first_stage_model.encoder.conv_in.weight": (128, 1, 3, 3),
    "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
    "first_stage_model.encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
    "first_stage_model.encoder.mid.attn_1.proj_out.weight": (1024, 1024, 1, 1),
    "first_stage_model.encoder.conv_out.weight": (32, 1024, 3, 3),
    "first_stage_model.decoder.mid.block_2.conv2.weight": (1024, 1024, 3, 3),
    "first_stage_model.decoder.up.3.upsample.conv.weight": (1024, 1024, 3, 3),
    "first_stage_model.decoder.up.0.block.2.norm2.bias": (128,),
    "first_stage_model.quant_conv.weight": (32, 32, 1, 1),
    "first_stage_model.post_quant_conv.bias": (16,),
    "first_stage_model.vocoder.conv_pre.weight": (1536, 256, 7),
    "first_stage_model.vocoder.ups.1.weight": (768, 384, 10),
    "first_stage_model.vocoder.resblocks.3.convs1.2.weight": (768, 768, 15),
    "first_stage_model.vocoder.resblocks.19.convs2.0.bias": (48,),
    "first_stage_model.vocoder.conv_post.weight": (1, 48, 7),
    "scale_factor": (),
}


def test_keys_are_audiosrs(with_encoder):
    shapes = {key: tuple(value.shape) for key, value in with_encoder.state_dict().items()}
    assert {key: shapes.get(key) for key in AUDIOSR_KEYS} == AUDIOSR_KEYS


def test_nothing_but_audiosrs_tensors_is_saved(without_encoder):
    # 1,610 of the reference's networks and scale_factor; schedules and windows are derived.
    assert len(without_encoder.state_dict()) == 1611


def test_a_context_costs_less_than_10_mb_in_bfloat16_and_15_in_float32(with_encoder):
    context = GlobalContext(
        vector=torch.empty(1, 64, device="meta"),
        tokens=torch.empty(1, 128, 64, device="meta"),
        times=torch.zeros(1, 128, dtype=torch.float64),  # on the CPU, as always
        spacing=0.08,
    )
    used = with_encoder.unet.context_cache(context).bytes
    assert used == 2 * 129 * (10 * 256 + 10 * 384 + 12 * 640) * 4
    assert used < 15e6
    assert used / 2 < 10e6


def test_every_preset_builds():
    for name in {*preset_names(), "tiny"} - {"audiosr-basic"}:  # that one is built above
        assert count(on_meta(load_config(name)["model"]["params"])) > 0


def test_the_tiny_preset_is_tiny(tiny_config):
    assert count(on_meta(tiny_config["model"]["params"])) < 150_000
