"""Presets: YAML files in ``configs/``, typed and checked before anything else is read.

``config["model"]["params"]`` is what ``LatentDiffusion(**params)`` takes, with AudioSR's key names.
An unknown key is an error that names the nearest known one, except those that AudioSR writes and
Lily ignores (``audiosr_keys.py``). The only importer of yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from lily.config.audiosr_keys import AUDIOSR_UNUSED, PREPROCESSING
from lily.config.inference import LATENT_ALIGN, InferenceConfig
from lily.config.model_id import WeightsConfig
from lily.config.sections import Amount, Count, Counts, Share, build, refuse_unknown, section
from lily.config.training import training_config
from lily.errors import ConfigError

Config = dict[str, Any]
MEL_FRAMES_PER_LATENT = 8  # 0.08 s: AudioSR's, and the unit of every chunk plan
SECTIONS = (
    *("name", "preprocessing", "model", "inference", "training", "weights", "base_model"),
    "augmentation",  # AudioSR's, ignored
)


@section
class MelConfig:
    """AudioSR's front end: 48 kHz, 2048-sample Hann windows every 480, 256 Slaney mels."""

    sample_rate: int = 48_000  # Hz
    n_fft: int = 2048  # samples
    hop: int = 480  # samples: 100 frames a second
    n_mels: int = 256
    fmin: float = 20.0  # Hz
    fmax: float = 24_000.0  # Hz


@section
class GlobalEncoderConfig:
    """The Global Audio Encoder; the defaults make its 549,280 parameters."""

    mel_bins: Count = 256
    channels: tuple[Count, Count, Count] = (32, 64, 128)
    hidden: Count = 128
    layers: Count = 2
    heads: Count = 4
    feed_forward: Count = 256
    tokens_in: Count = 1024  # most tokens the transformer reads, so that time stays linear
    tokens_out: Count = 128  # most tokens the U-Net attends to
    # The input marks unknown bins and the vector holds the profile; older models have neither.
    profile: bool = False

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden}; give a multiple of heads ({self.heads}).")


@section
class UNetConfig:
    """The LDM U-Net (Rombach et al. 2022) as AudioSR sets it, and the encoder's toggle."""

    in_channels: Count = 32
    out_channels: Count = 16
    model_channels: Count = 128
    attention_resolutions: tuple[Count, ...] = (8, 4, 2)
    num_res_blocks: Count = 2
    channel_mult: Counts = (1, 2, 3, 5)
    num_head_channels: Count = 32
    transformer_depth: Count = 1
    extra_sa_layer: bool = True
    dropout: Share = 0.0
    use_global_encoder: bool = False
    global_context_dim: Count = 64
    global_query_bands: Count = 4  # queries per latent time column
    global_encoder: GlobalEncoderConfig = Field(default_factory=GlobalEncoderConfig)

    @property
    def stride(self) -> int:
        """Latent frames and bins under one position of the coarsest level."""
        return 2 ** (len(self.channel_mult) - 1)

    def __post_init__(self) -> None:
        if LATENT_ALIGN % self.stride:
            raise ValueError(
                f"channel_mult has {len(self.channel_mult)} levels, which halve chunks to 1/"
                f"{self.stride}; chunks are multiples of {LATENT_ALIGN} latent frames, so give 1 "
                "to 4 levels."
            )
        for level, multiple in enumerate(self.channel_mult):
            width, last = self.model_channels * multiple, level == len(self.channel_mult) - 1
            attends = last or 2**level in self.attention_resolutions
            if attends and width % self.num_head_channels:
                raise ValueError(
                    f"num_head_channels is {self.num_head_channels}; give a divisor of the width "
                    f"at level {level + 1}, model_channels x channel_mult = {width}."
                )


@section
class AutoencoderConfig:
    """The KL autoencoder's ``ddconfig``; ``patch`` (time, mel) cells are folded into channels."""

    z_channels: Count = 16
    mel_bins: Count = 256
    in_channels: Literal[1] = 1
    out_ch: Literal[1] = 1
    ch: Count = 128
    ch_mult: Counts = (1, 2, 4, 8)
    num_res_blocks: Count = 2
    dropout: Share = 0.0
    patch: tuple[Count, Count] = (1, 1)
    mid_attention: bool = True

    @property
    def bins(self) -> int:
        """Latent bins over the mel axis."""
        return self.mel_bins // (self.patch[1] * 2 ** (len(self.ch_mult) - 1))

    @property
    def frames(self) -> int:
        """Mel frames per latent frame; the engine's arithmetic is in units of 8."""
        return self.patch[0] * 2 ** (len(self.ch_mult) - 1)


@section
class HifiganConfig:
    """AudioSR's 48 kHz HiFi-GAN (Kong et al. 2020)."""

    n_mels: Count = 256
    upsample_rates: Counts = (6, 5, 4, 2, 2)
    upsample_kernel_sizes: Counts = (12, 10, 8, 4, 4)
    upsample_initial_channel: Count = 1536
    resblock_kernel_sizes: Counts = (3, 7, 11, 15)
    resblock_dilations: Counts = (1, 3, 5)


@section
class IstftVocoderConfig:
    """The small preset's vocoder: ConvNeXt blocks and an ISTFT head that also filters noise."""

    n_mels: Count = 256
    hop: Count = 480  # samples per mel frame
    dim: Count = 256
    intermediate: Count = 768
    layers: Count = 6
    frames_per_mel: Count = 2  # synthesis frames per mel frame: half the hop, sharper transients
    n_fft: Count = 1024


@section
class CarrierVocoderConfig(IstftVocoderConfig):
    """The same trunk with gates that mix carriers made from the recording's own band."""

    side: Count = 128  # width of the path from the recording's tonality and attacks to the heads
    gate_bands: Count = 48  # 500 Hz each, linear between
    guided_blocks: Count = 2  # the last blocks, which the recording's features reach
    # Added to the logits of the attacks' exponents: training by a mean distance makes them soft.
    sharpen: float = 0.0
    # Added to the copies' gates and taken from the noise's, in dB, at the same power: training by a
    # mean distance prefers noise to lines that may be wrong.
    lines_db: float = 0.0


VOCODERS = {
    "hifigan": HifiganConfig,
    "istft": IstftVocoderConfig,
    "istft_carriers": CarrierVocoderConfig,
}


@section
class FirstStageConfig:
    """The autoencoder's parameters beside its ``ddconfig`` and ``vocoder_config``."""

    embed_dim: Count  # channels of a latent


@section
class DiffusionConfig:
    """LatentDiffusion's parameters beside its networks."""

    channels: Count = 16  # of a latent
    timesteps: Literal[1000] = 1000  # the samplers are made for it
    beta_schedule: Literal["cosine"] = "cosine"  # this and v are what AudioSR was trained with
    parameterization: Literal["v"] = "v"
    unconditional_prob_cfg: Share = 0.1
    context_dropout: Share = 0.3
    timestep_power: Amount = 1.0
    scale_lowpass: bool = False  # AudioSR's networks were trained so, lily-mini was not


def unet_config(params: Mapping[str, Any]) -> UNetConfig:
    """Read ``unet_config.params``."""
    return build(UNetConfig, params, "unet_config.params", AUDIOSR_UNUSED)


def vocoder_config(params: Mapping[str, Any]) -> HifiganConfig | IstftVocoderConfig:
    """Read ``vocoder_config``; ``kind`` is one of VOCODERS, AudioSR's ``hifigan`` by default."""
    kind = params.get("kind", "hifigan") if isinstance(params, Mapping) else "hifigan"
    if kind not in VOCODERS:
        raise ConfigError(f"vocoder_config.kind is {kind!r}; give one of {', '.join(VOCODERS)}.")
    return build(VOCODERS[kind], params, "vocoder_config", ["kind"])


def mel_config(preprocessing: Mapping[str, Any]) -> MelConfig:
    """Read AudioSR's ``preprocessing`` section."""
    chosen = {}
    for name in preprocessing:
        refuse_unknown(name, PREPROCESSING, "preprocessing")
        for key, value in _mapping(preprocessing, name, "preprocessing").items():
            refuse_unknown(key, PREPROCESSING[name], f"preprocessing.{name}")
            if PREPROCESSING[name][key]:
                chosen[PREPROCESSING[name][key]] = value
    mel = build(MelConfig, chosen, "preprocessing")
    if mel != MelConfig():
        raise ConfigError(f"preprocessing is {mel}; every network here reads {MelConfig()}.")
    return mel


def presets_folder() -> Path:
    """The folder of presets: ``configs/`` beside the package, or inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def preset_names() -> list[str]:
    """Names ``load_config`` knows, the test preset left out."""
    return sorted(p.stem for p in presets_folder().glob("*.yaml") if p.stem != "tiny")


def load_config(name_or_path: str | Path) -> Config:
    """Read a preset by name, or any YAML file by path; raises ConfigError."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = presets_folder() / f"{name_or_path}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"No preset {str(name_or_path)!r}; give one of {', '.join(preset_names())} or a "
            "YAML file."
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} cannot be read as YAML: {error}") from error
    return validate(config, path.name)


def validate(config: object, where: str) -> Config:
    """Check every section of a configuration; returns it unchanged.

    Raises ConfigError, one sentence that begins with ``where``, the file's name.
    """
    try:
        if not isinstance(config, Mapping):
            raise ConfigError("a configuration is a mapping with a section model.")
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return dict(config)


def _check(config: Mapping[str, Any]) -> None:
    for key in config:
        refuse_unknown(key, SECTIONS, "the configuration")
    params = _mapping(_mapping(config, "model", ""), "params", "model")
    networks = ("first_stage_config", "unet_config")
    first_stage, unet_params = (
        _mapping(_mapping(params, name, "model.params"), "params", name) for name in networks
    )
    mel_config(_mapping(config, "preprocessing", ""))
    unet = unet_config(unet_params)
    rest = {key: value for key, value in params.items() if key not in networks}
    diffusion = build(DiffusionConfig, rest, "model.params", AUDIOSR_UNUSED)
    ddconfig = _mapping(first_stage, "ddconfig", "first_stage_config.params")
    autoencoder = build(AutoencoderConfig, ddconfig, "ddconfig", AUDIOSR_UNUSED)
    vocoder_config(_mapping(first_stage, "vocoder_config", "first_stage_config.params"))
    ignored = {*AUDIOSR_UNUSED, "ddconfig", "vocoder_config"}
    first = build(FirstStageConfig, first_stage, "first_stage_config.params", ignored)
    _check_shapes(unet, autoencoder, first.embed_dim, diffusion.channels)
    build(InferenceConfig, config.get("inference", {}), "inference")
    if "training" in config:
        training_config(config["training"])
    if "weights" in config:
        build(WeightsConfig, config["weights"], "weights")


def _mapping(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The mapping under ``key``, empty if there is none; raises ConfigError for another type."""
    value = values.get(key, {})
    if not isinstance(value, Mapping):
        place = f"{where}.{key}".lstrip(".")
        raise ConfigError(f"{place}: expected a mapping, got {type(value).__name__}.")
    return value


def _check_shapes(
    unet: UNetConfig, autoencoder: AutoencoderConfig, embed_dim: int, channels: int
) -> None:
    """Raise ConfigError unless the networks fit each other."""
    if autoencoder.frames != MEL_FRAMES_PER_LATENT:
        raise ConfigError(
            f"the autoencoder makes one latent frame of {autoencoder.frames} mel frames; patch and "
            f"ch_mult must make it {MEL_FRAMES_PER_LATENT}."
        )
    mels_per_bin = autoencoder.patch[1] * 2 ** (len(autoencoder.ch_mult) - 1)
    if autoencoder.mel_bins % (mels_per_bin * unet.stride):
        raise ConfigError(
            f"ddconfig.mel_bins is {autoencoder.mel_bins}; patch, ch_mult and channel_mult divide "
            f"it by {mels_per_bin * unet.stride}, so give a multiple of that."
        )
    if not channels == embed_dim == unet.out_channels == unet.in_channels / 2:
        raise ConfigError(
            f"a latent has channels {channels}, embed_dim {embed_dim}, out_channels "
            f"{unet.out_channels}, in_channels {unet.in_channels}; the first three must be equal "
            "and in_channels twice that: the low-pass latent lies beside the noisy one."
        )
