"""Read and validate presets: the only importer of yaml, the only place that knows a preset's keys.

A preset is a YAML file in ``configs/``; ``config["model"]["params"]`` is what
``LatentDiffusion(**params)`` takes, with AudioSR's key names. Keys AudioSR writes and nobody reads
are accepted by name; any other unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lily.config.model_id import WeightsConfig
from lily.errors import ConfigError

T = TypeVar("T")
Config = dict[str, Any]

# Written by AudioSR's own configuration and read by nothing that infers or trains here.
AUDIOSR_UNUSED = frozenset(
    """
    target base_learning_rate warmup_steps optimize_ddpm_parameter sampling_rate batchsize
    linear_start linear_end num_timesteps_cond log_every_t first_stage_key latent_t_size
    latent_f_size monitor evaluation_params reload_from_ckpt image_key subband time_shuffle
    double_z resolution downsample_time attn_resolutions image_size use_spatial_transformer
    lossconfig cond_stage_config extra_film_condition_dim context_dim legacy scale_by_std
    """.split()  # noqa: SIM905
)


MEL_FRAMES_PER_LATENT = 8  # 0.08 s: AudioSR's, and the unit of every chunk plan


@dataclass(frozen=True)
class MelConfig:
    """AudioSR's front end: 48 kHz, 2048-sample Hann windows every 480, 256 Slaney mels."""

    sample_rate: int = 48_000  # Hz
    n_fft: int = 2048  # samples
    hop: int = 480  # samples: 100 frames a second
    n_mels: int = 256
    fmin: float = 20.0  # Hz
    fmax: float = 24_000.0  # Hz


@dataclass(frozen=True)
class GlobalEncoderConfig:
    """The Global Audio Encoder; the defaults make its 549,280 parameters."""

    mel_bins: int = 256
    channels: tuple[int, ...] = (32, 64, 128)
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    feed_forward: int = 256
    tokens_in: int = 1024  # most tokens the transformer reads, so that an hour costs no more
    tokens_out: int = 128  # most tokens the U-Net attends to


@dataclass(frozen=True)
class UNetConfig:
    """The LDM U-Net (Rombach et al. 2022) as AudioSR sets it, and the encoder's toggle."""

    in_channels: int = 32
    out_channels: int = 16
    model_channels: int = 128
    attention_resolutions: tuple[int, ...] = (8, 4, 2)
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 3, 5)
    num_head_channels: int = 32
    transformer_depth: int = 1
    extra_sa_layer: bool = True
    dropout: float = 0.0
    use_global_encoder: bool = False
    global_context_dim: int = 64
    global_query_bands: int = 4  # queries per latent time column
    global_encoder: GlobalEncoderConfig = field(default_factory=GlobalEncoderConfig)


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL autoencoder's ``ddconfig``; ``patch`` (time, mel) cells are folded into channels."""

    z_channels: int = 16
    mel_bins: int = 256
    in_channels: int = 1
    out_ch: int = 1
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 8)
    num_res_blocks: int = 2
    dropout: float = 0.0
    patch: tuple[int, int] = (1, 1)
    mid_attention: bool = True

    @property
    def bins(self) -> int:
        """Latent bins over the mel axis."""
        return self.mel_bins // (self.patch[1] * 2 ** (len(self.ch_mult) - 1))

    @property
    def frames(self) -> int:
        """Mel frames per latent frame; the engine's arithmetic is in units of 8."""
        return self.patch[0] * 2 ** (len(self.ch_mult) - 1)


@dataclass(frozen=True)
class HifiganConfig:
    """AudioSR's 48 kHz HiFi-GAN (Kong et al. 2020)."""

    n_mels: int = 256
    upsample_rates: tuple[int, ...] = (6, 5, 4, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (12, 10, 8, 4, 4)
    upsample_initial_channel: int = 1536
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11, 15)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)


@dataclass(frozen=True)
class IstftVocoderConfig:
    """The small preset's vocoder: ConvNeXt blocks and an ISTFT head that also filters noise."""

    n_mels: int = 256
    hop: int = 480  # samples per mel frame
    dim: int = 256
    intermediate: int = 768
    layers: int = 6
    frames_per_mel: int = 2  # synthesis frames per mel frame: half the hop, sharper transients
    n_fft: int = 1024


@dataclass(frozen=True)
class InferenceConfig:
    """How the engine runs a preset; lengths in latent frames of 0.08 s."""

    steps: Mapping[str, int]
    guidance: Mapping[str, float]
    samplers: tuple[str, ...]
    sampler: str
    chunk: int = 64  # 5.12 s
    overlap: int = 8  # 0.64 s shared by neighbours
    fade: int = 4  # 0.32 s of it is cross-faded, the rest is guard
    batch: int = 1  # rows (chunk x channel) sampled together
    guided: tuple[int, int] = (0, 1000)  # times from and below which guidance acts
    large: bool = False  # pays for half precision even on a CPU
    level_peak: float = 0.5  # AudioSR's normalisation, applied per recording and undone
    seed_max: int = 2**31 - 1


@dataclass(frozen=True)
class StageConfig:
    """One training stage: how long, how large, how fast."""

    steps: int
    batch: int
    seconds: float  # length of a training crop
    learning_rate: float
    warmup: int = 500
    ema: float = 0.999
    clip: float = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe of a preset: four stages, in this order."""

    autoencoder: StageConfig
    vocoder: StageConfig
    diffusion: StageConfig
    encoder: StageConfig  # the encoder alone, everything else frozen
    seed: int = 0
    validation_fraction: float = 0.12  # of the sources, never of the clips
    variants: int = 4  # times the corpus is joined into albums and degraded anew
    album_seconds: tuple[float, float] = (10.0, 180.0)
    cutoff_hz: tuple[float, float] = (2_000.0, 16_000.0)
    codecs: float = 0.2  # share of albums that went through MP3, Vorbis or Opus
    equalised: float = 0.5  # share of albums whose tone somebody has changed
    own_bandwidth: float = 0.0  # share of albums that end below 20 kHz by themselves
    context_seconds: tuple[float, float] = (8.0, 180.0)  # of an album; long ones are seldom
    changing_bandwidth: float = 0.5  # share of contexts that are wide in parts, narrow in others
    pooling: tuple[int, int] = (1, 32)  # tokens averaged into one, log-uniform
    # The encoder's own stage: mostly where only the context can tell, mostly at noisy times.
    encoder_changing_bandwidth: float = 0.8
    encoder_timestep_power: float = 4.0


def build(kind: type[T], values: Mapping[str, Any], where: str, ignored: Iterable[str] = ()) -> T:
    """Make the dataclass ``kind`` from a mapping; unknown or missing keys raise ConfigError."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {type(values).__name__}.")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    chosen = {}
    for key, value in values.items():
        if key in known:
            chosen[key] = tuple(value) if isinstance(value, list) else value
        elif key not in ignored:
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(key, known)}.")
    missing = [
        name
        for name, f in known.items()
        if name not in chosen and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}.")
    return kind(**chosen)


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(key), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def unet_config(params: Mapping[str, Any]) -> UNetConfig:
    """Read ``unet_config.params``."""
    params = dict(params)
    encoder = build(GlobalEncoderConfig, params.pop("global_encoder", {}), "global_encoder")
    return build(
        UNetConfig, {**params, "global_encoder": encoder}, "unet_config.params", AUDIOSR_UNUSED
    )


def vocoder_config(params: Mapping[str, Any]) -> HifiganConfig | IstftVocoderConfig:
    """Read ``vocoder_config``; ``kind`` is ``hifigan`` (AudioSR's, the default) or ``istft``."""
    params = dict(params)
    kinds = {"hifigan": HifiganConfig, "istft": IstftVocoderConfig}
    kind = params.pop("kind", "hifigan")
    if kind not in kinds:
        raise ConfigError(f"vocoder_config.kind is {kind!r}; allowed: {', '.join(kinds)}.")
    return build(kinds[kind], params, "vocoder_config")


def mel_config(preprocessing: Mapping[str, Any]) -> MelConfig:
    """Read AudioSR's ``preprocessing`` section."""
    names = {
        "audio": {"sampling_rate": "sample_rate", "duration": "", "max_wav_value": ""},
        "stft": {"filter_length": "n_fft", "hop_length": "hop", "win_length": ""},
        "mel": {"n_mel_channels": "n_mels", "mel_fmin": "fmin", "mel_fmax": "fmax"},
    }
    chosen = {}
    for section, values in preprocessing.items():
        if section not in names:
            raise ConfigError(f"preprocessing: unknown key {section!r}{_nearest(section, names)}.")
        for key, value in values.items():
            if key not in names[section]:
                nearest = _nearest(key, names[section])
                raise ConfigError(f"preprocessing.{section}: unknown key {key!r}{nearest}.")
            if names[section][key]:  # the others are AudioSR's, and read by nothing
                chosen[names[section][key]] = value
    mel = MelConfig(**chosen)
    if mel != MelConfig():
        raise ConfigError(f"preprocessing is {mel}; every network here reads {MelConfig()}.")
    return mel


def training_config(section: Mapping[str, Any]) -> TrainingConfig:
    """Read the ``training`` section with its stages."""
    section = dict(section)
    for stage in ("autoencoder", "vocoder", "diffusion", "encoder"):
        section[stage] = build(StageConfig, section.get(stage, {}), f"training.{stage}")
    return build(TrainingConfig, section, "training")


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
    try:
        return validate(config, path.name)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name} has a value of the wrong kind: {error}.") from error


def validate(config: Any, where: str) -> Config:
    """Check every section of a configuration; returns it unchanged; raises ConfigError."""
    known = ("name", "preprocessing", "model", "inference", "training", "weights", "base_model")
    model = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(model.get("params"), Mapping):
        raise ConfigError(f"{where}: a configuration needs a section model with params.")
    for key in config:
        if key not in (*known, "augmentation"):
            raise ConfigError(f"{where}: unknown section {key!r}{_nearest(key, known)}.")
    mel_config(config.get("preprocessing", {}))
    params = config["model"]["params"]
    for key in ("first_stage_config", "unet_config"):
        if not isinstance(params.get(key, {}), Mapping):
            raise ConfigError(f"{where}: model.params.{key} must be a mapping.")
    unet_config(params.get("unet_config", {}).get("params", {}))
    first_stage = params.get("first_stage_config", {}).get("params", {})
    ddconfig = first_stage.get("ddconfig", {})
    autoencoder = build(AutoencoderConfig, ddconfig, "ddconfig", AUDIOSR_UNUSED)
    if autoencoder.frames != MEL_FRAMES_PER_LATENT:
        raise ConfigError(
            f"{where}: the autoencoder makes one latent frame of {autoencoder.frames} mel frames; "
            f"patch and ch_mult must make it {MEL_FRAMES_PER_LATENT}."
        )
    vocoder_config(first_stage.get("vocoder_config", {}))
    inference = build(InferenceConfig, config.get("inference", {}), "inference")
    _check_inference(inference, where)
    if "training" in config:
        training_config(config["training"])
    if "weights" in config:
        build(WeightsConfig, config["weights"], "weights")
    return dict(config)


def _check_inference(inference: InferenceConfig, where: str) -> None:
    for name in ("steps", "guidance"):
        section = getattr(inference, name)
        if not isinstance(section, Mapping) or set(section) != {"default", "min", "max"}:
            raise ConfigError(f"{where}: inference.{name} needs default, min and max.")
    if inference.sampler not in inference.samplers:
        raise ConfigError(f"{where}: inference.sampler must be one of inference.samplers.")
    if inference.chunk % 8 or inference.overlap % 8:
        raise ConfigError(f"{where}: inference.chunk and overlap must be multiples of 8 frames.")
