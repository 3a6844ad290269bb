"""Presets are read strictly: what is unknown is refused with the nearest known name."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest
import soundfile
import yaml

from lily.config.audiosr_keys import AUDIOSR_UNUSED
from lily.config.inference import InferenceConfig
from lily.config.model_id import hub_id
from lily.config.presets import (
    AutoencoderConfig,
    DiffusionConfig,
    GlobalEncoderConfig,
    HifiganConfig,
    IstftVocoderConfig,
    MelConfig,
    UNetConfig,
    load_config,
    mel_config,
    preset_names,
    presets_folder,
    unet_config,
    validate,
    vocoder_config,
)
from lily.config.sections import build
from lily.config.training import StageConfig, TrainingConfig, training_config
from lily.errors import ConfigError

PARAMS = ("model", "params")
UNET = (*PARAMS, "unet_config", "params")
FIRST_STAGE = (*PARAMS, "first_stage_config", "params")
DDCONFIG = (*FIRST_STAGE, "ddconfig")


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
        assert choice.min <= choice.default <= choice.max


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
        (DDCONFIG, "z_chanels", "z_channels"),
        (PARAMS, "scale_lowpas", "scale_lowpass"),
        (FIRST_STAGE, "embed_din", "embed_dim"),
        (("preprocessing",), "steft", "stft"),
        (("preprocessing", "stft"), "hop_lenght", "hop_length"),
        ((*FIRST_STAGE, "vocoder_config"), "intermediat", "intermediate"),
        (("inference",), "overlaps", "overlap"),
        (("inference", "steps"), "maxi", "max"),
        (("training",), "variant", "variants"),
        (("training", "diffusion"), "learning_rat", "learning_rate"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(tiny_config, path, wrong, nearest):
    at(tiny_config, path)[wrong] = 1
    with pytest.raises(ConfigError, match=f"{wrong!r}.*{nearest!r}"):
        validate(tiny_config, "mine.yaml")


@pytest.mark.parametrize("path", [PARAMS, UNET, FIRST_STAGE, DDCONFIG])
@pytest.mark.parametrize("key", ["image_size", "double_z", "use_spatial_transformer", "target"])
def test_keys_that_audiosr_writes_and_nobody_reads_are_accepted(tiny_config, path, key):
    assert key in AUDIOSR_UNUSED
    at(tiny_config, path)[key] = "anything"
    assert validate(tiny_config, "mine.yaml") == tiny_config


def refusal(config, path, key, value) -> str:
    """What is said of a configuration with one value replaced; one sentence that names the file."""
    at(config, path)[key] = value
    with pytest.raises(ConfigError) as caught:
        validate(config, "mine.yaml")
    said = str(caught.value)
    assert said.startswith("mine.yaml: ") and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("path", "key", "value", "said"),
    [
        (("inference",), "batch", "4", "inference.batch is '4'; it should be a whole number"),
        (("inference",), "batch", True, "inference.batch is True; it should be a whole number"),
        (("inference",), "batch", 1.5, "inference.batch is 1.5"),
        (("inference", "steps"), "default", "two", "inference.steps.default is 'two'"),
        (("inference", "guidance"), "max", None, "inference.guidance.max is None"),
        (("inference",), "level_peak", float("nan"), "inference.level_peak is nan"),
        (("training", "encoder"), "learning_rate", float("inf"), "should be a finite number"),
        (("inference",), "samplers", "ddim", "inference.samplers is 'ddim'"),
        (("inference",), "large", "yes", "inference.large is 'yes'; it should be a valid boolean"),
        (("training",), "album_seconds", [1], "training.album_seconds"),
        (("training", "diffusion"), "learning_rate", "1e-3", "training.diffusion.learning_rate"),
        (UNET, "channel_mult", [1, "2"], "unet_config.params.channel_mult.1 is '2'"),
        (UNET, "use_global_encoder", 1, "unet_config.params.use_global_encoder is 1"),
        ((*UNET, "global_encoder"), "channels", [4, 8], "global_encoder.channels"),
        (UNET, "global_encoder", [1, 2], "global_encoder"),
        (DDCONFIG, "patch", 4, "ddconfig.patch is 4"),
        (FIRST_STAGE, "embed_dim", [4], "first_stage_config.params.embed_dim is [4]"),
        (FIRST_STAGE, "vocoder_config", "hifigan", "vocoder_config: expected a mapping, got str"),
        (PARAMS, "timestep_power", "3", "model.params.timestep_power is '3'"),
        (PARAMS, "unet_config", 3, "model.params.unet_config: expected a mapping, got int"),
        (("preprocessing",), "stft", 2048, "preprocessing.stft: expected a mapping, got int"),
        ((), "inference", None, "inference: expected a mapping, got NoneType"),
        ((), "weights", "lily-mini", "weights: expected a mapping, got str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_place(tiny_config, path, key, value, said):
    assert said in refusal(tiny_config, path, key, value)


@pytest.mark.parametrize(
    ("path", "key", "value", "said"),
    [
        (("inference",), "chunk", 20, "inference.chunk is 20; it should be a multiple of 8"),
        (("inference",), "overlap", 4, "inference.overlap is 4; it should be a multiple of 8"),
        (("inference",), "overlap", 16, "at most 8 frames"),  # chunk is 16
        (("inference",), "fade", 16, "give 0 to 8 frames"),
        (("inference",), "batch", 0, "greater than 0"),
        (("inference",), "level_peak", 0, "greater than 0"),
        (("inference",), "level_peak", 1.5, "less than or equal to 1"),
        (("inference",), "guided", [900, 250], "two rising times"),
        (("inference",), "sampler", "euler", "one of samplers: dpmpp2m, ddim"),
        (("inference",), "steps", {"default": 2}, "inference.steps: missing min"),
        (("inference",), "guidance", {"min": 1, "max": 2}, "inference.guidance: missing default"),
        (("inference", "steps"), "default", 51, "min <= default <= max"),
        (("inference", "guidance"), "min", 0.5, "greater than or equal to 1"),
        (DDCONFIG, "ch_mult", [1, 2, 4], "must make it 8"),
        (DDCONFIG, "patch", [2, 8], "must make it 8"),
        (DDCONFIG, "mel_bins", 192, "give a multiple of that"),
        ((*FIRST_STAGE, "vocoder_config"), "kind", "griffin-lim", "hifigan, istft"),
        (UNET, "channel_mult", [1, 1, 1, 1, 2], "give 1 to 4 levels"),
        (UNET, "num_head_channels", 3, "give a divisor"),
        (UNET, "in_channels", 9, "in_channels twice that"),
        (PARAMS, "channels", 5, "the first three must be equal"),
        (PARAMS, "timesteps", 500, "should be 1000"),
        (PARAMS, "parameterization", "eps", "should be 'v'"),
        ((*UNET, "global_encoder"), "heads", 3, "multiple of heads"),
        (("training",), "cutoff_hz", [16_000, 2_000], "the smaller number first"),
        (("training",), "codecs", 1.2, "less than or equal to 1"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_allowed(tiny_config, path, key, value, said):
    assert said in refusal(tiny_config, path, key, value)


def test_a_value_that_is_wrong_ends_before_the_recording_is_read(
    tiny_config, tmp_path, capsys, monkeypatch
):
    from lily.cli import main

    tiny_config["inference"]["batch"] = "4"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_config), encoding="utf-8")
    recording = tmp_path / "a.wav"
    soundfile.write(recording, [0.1, -0.1] * 500, 48_000)

    def read(*_):
        raise AssertionError("the recording was read")

    monkeypatch.setattr("lily.inference.analyze.read_blocks", read)
    out = str(tmp_path / "out")
    assert main(["upsample", str(recording), "-o", out, "--preset", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "inference.batch is '4'" in error


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
        {"model": {"params": [1]}},
        {1: 2},
    ],
)
def test_what_is_no_configuration_is_refused(broken):
    with pytest.raises(ConfigError, match="mine.yaml"):
        validate(broken, "mine.yaml")


def test_a_loop_in_a_file_is_refused(tiny_config):
    tiny_config["inference"]["steps"] = tiny_config["inference"]
    with pytest.raises(ConfigError, match="cannot be read"):
        validate(tiny_config, "mine.yaml")


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
    package = Path(__file__).parents[2] / "lily"
    read = set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if path.parent.name != "config":  # stages are read by name
            read |= {str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    kinds = (
        MelConfig,
        GlobalEncoderConfig,
        UNetConfig,
        AutoencoderConfig,
        HifiganConfig,
        IstftVocoderConfig,
        DiffusionConfig,
        InferenceConfig,
        StageConfig,
        TrainingConfig,
    )
    unread = {f"{kind.__name__}.{f.name}" for kind in kinds for f in fields(kind)} - {
        f"{kind.__name__}.{name}" for kind in kinds for name in read
    }
    one_value = {"DiffusionConfig.beta_schedule", "DiffusionConfig.parameterization"}
    assert unread == one_value
