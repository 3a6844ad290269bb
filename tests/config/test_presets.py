"""Presets are read strictly: what is unknown is refused with the nearest known name."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from lily.config import presets as config_module
from lily.config.model_id import hub_id
from lily.config.presets import (
    AUDIOSR_UNUSED,
    AutoencoderConfig,
    GlobalEncoderConfig,
    HifiganConfig,
    InferenceConfig,
    IstftVocoderConfig,
    MelConfig,
    StageConfig,
    TrainingConfig,
    UNetConfig,
    build,
    load_config,
    mel_config,
    preset_names,
    presets_folder,
    training_config,
    unet_config,
    validate,
    vocoder_config,
)
from lily.errors import ConfigError

UNET = ("model", "params", "unet_config", "params")
FIRST_STAGE = ("model", "params", "first_stage_config", "params")


def at(config, path):
    for key in path:
        config = config[key]
    return config


def test_the_presets_people_choose_from_are_these():
    assert preset_names() == ["audiosr-basic", "audiosr-speech", "lily-mini"]


@pytest.mark.parametrize("path", sorted(presets_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_is_valid_and_named_after_its_file(path):
    config = load_config(path.stem)
    assert config["name"] == path.stem
    assert load_config(path) == config
    assert mel_config(config["preprocessing"]) == MelConfig()
    inference = build(InferenceConfig, config["inference"], "inference")
    for choice in (inference.steps, inference.guidance):
        assert choice["min"] <= choice["default"] <= choice["max"]
    assert inference.fade <= inference.overlap < inference.chunk


def test_the_bundled_preset_has_a_recipe():
    training = training_config(load_config("lily-mini")["training"])
    assert isinstance(training.diffusion, StageConfig)
    assert training.cutoff_hz[0] < training.cutoff_hz[1]


@pytest.mark.parametrize(
    ("path", "wrong", "nearest"),
    [
        ((), "inferense", "inference"),
        (UNET, "model_chanels", "model_channels"),
        (UNET, "use_global_encoders", "use_global_encoder"),
        ((*UNET, "global_encoder"), "hiden", "hidden"),
        ((*FIRST_STAGE, "ddconfig"), "z_chanels", "z_channels"),
        ((*FIRST_STAGE, "vocoder_config"), "intermediat", "intermediate"),
        (("inference",), "overlaps", "overlap"),
        (("training",), "variant", "variants"),
        (("training", "diffusion"), "learning_rat", "learning_rate"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(tiny_config, path, wrong, nearest):
    at(tiny_config, path)[wrong] = 1
    with pytest.raises(ConfigError, match=f"{wrong!r}.*{nearest!r}"):
        validate(tiny_config, "mine.yaml")


@pytest.mark.parametrize("path", [UNET, (*FIRST_STAGE, "ddconfig")])
@pytest.mark.parametrize("key", ["image_size", "double_z", "use_spatial_transformer", "target"])
def test_keys_that_audiosr_writes_and_nobody_reads_are_accepted(tiny_config, path, key):
    assert key in AUDIOSR_UNUSED
    at(tiny_config, path)[key] = "anything"
    assert validate(tiny_config, "mine.yaml") == tiny_config


@pytest.mark.parametrize(
    ("path", "key", "value", "said"),
    [
        (("inference",), "chunk", 20, "multiples of 8"),
        (("inference",), "overlap", 4, "multiples of 8"),
        (("inference",), "sampler", "euler", "inference.samplers"),
        (("inference",), "steps", {"default": 2}, "default, min and max"),
        (("inference",), "guidance", {"min": 1, "max": 2}, "default, min and max"),
        ((*FIRST_STAGE, "ddconfig"), "ch_mult", [1, 2, 4], "must make it 8"),
        ((*FIRST_STAGE, "ddconfig"), "patch", [2, 8], "must make it 8"),
        ((*FIRST_STAGE, "vocoder_config"), "kind", "griffin-lim", "hifigan, istft"),
        (UNET, "global_encoder", [1, 2], "expected a mapping"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_allowed(tiny_config, path, key, value, said):
    at(tiny_config, path)[key] = value
    with pytest.raises(ConfigError, match=said):
        validate(tiny_config, "mine.yaml")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "one of bundled, folder and repo"),
        ({"bundled": "a", "repo": "a/b"}, "one of bundled, folder and repo"),
        ({"folder": "a", "checkpoint": "a.safetensors"}, "belong to a repo"),
        ({"folder": "a", "revision": "v1"}, "belong to a repo"),
        ({"repo": "a/b", "base": "c"}, "base belongs to the folder"),
        ({"repo": "b"}, "give owner/name"),
        ({"repo": "a/b@v1"}, "give owner/name"),
        ({"repo": "a/b", "checkpoint": "pytorch_model.bin"}, "give a .safetensors"),
        ({"rep": "a/b"}, "did you mean 'repo'"),
    ],
)
def test_weights_come_from_one_place_and_hold_no_code(tiny_config, weights, said):
    with pytest.raises(ConfigError, match=said):
        validate({**tiny_config, "weights": weights}, "mine.yaml")


@pytest.mark.parametrize(
    ("text", "repo", "revision", "pinned"),
    [
        ("me/lily", "me/lily", None, False),
        ("me/lily.v2@main", "me/lily.v2", "main", False),
        (f"me/lily@{'0a' * 20}", "me/lily", "0a" * 20, True),
    ],
)
def test_a_hub_id_is_read_and_written_the_same(text, repo, revision, pinned):
    model = hub_id(text)
    assert (model.repo, model.revision, model.pinned, str(model)) == (repo, revision, pinned, text)


@pytest.mark.parametrize("text", ["lily", "/me/lily", "./lily", "me/lily/x", "../up", "a/b@", ""])
def test_what_is_a_path_is_no_hub_id(text):
    assert hub_id(text) is None


def test_a_missing_key_is_named(tiny_config):
    del tiny_config["inference"]["samplers"]
    with pytest.raises(ConfigError, match="missing samplers"):
        validate(tiny_config, "mine.yaml")


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "text",
        {},
        {"model": {}},
        {"model": None},
    ],
)
def test_what_is_no_configuration_is_refused(broken):
    with pytest.raises(ConfigError, match="mine.yaml"):
        validate(broken, "mine.yaml")


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'lily-maxi'.*audiosr-basic, audiosr-speech, lily-mini"):
        load_config("lily-maxi")


def test_a_file_that_is_not_yaml_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="mine.yaml"):
        load_config(path)


def test_a_file_of_ones_own_is_read_from_anywhere(tmp_path, monkeypatch, tiny_config):
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(tiny_config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_config("mine.yml") == tiny_config
    assert load_config("tiny")["name"] == "tiny"  # presets are found from any folder


def test_lists_become_tuples_so_that_a_config_cannot_change():
    config = unet_config({"channel_mult": [1, 2]})
    assert config.channel_mult == (1, 2)
    with pytest.raises(AttributeError):
        config.dropout = 0.5


def test_a_vocoder_without_a_kind_is_audiosrs():
    assert vocoder_config({}) == HifiganConfig()
    assert isinstance(vocoder_config({"kind": "istft"}), IstftVocoderConfig)


def test_latent_bins_and_frames_follow_from_patch_and_levels():
    assert (AutoencoderConfig().bins, AutoencoderConfig().frames) == (32, 8)
    small = AutoencoderConfig(ch_mult=(1, 2), patch=(4, 8))
    assert (small.bins, small.frames) == (16, 8)


def test_every_option_is_read_by_something():
    package = Path(config_module.__file__).parents[1]
    read = set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if path.name != "config.py":  # stages are read by name
            read |= {str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    kinds = (
        MelConfig,
        GlobalEncoderConfig,
        UNetConfig,
        AutoencoderConfig,
        HifiganConfig,
        IstftVocoderConfig,
        InferenceConfig,
        StageConfig,
        TrainingConfig,
    )
    unread = {f"{kind.__name__}.{f.name}" for kind in kinds for f in fields(kind)} - {
        f"{kind.__name__}.{name}" for kind in kinds for name in read
    }
    assert not unread
