"""The ``training`` section of a preset: its stages and the data they draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from lily.config.sections import Amount, Count, Share, build, section

STAGES = ("autoencoder", "vocoder", "diffusion", "finish", "encoder", "carriers")
Range = tuple[Amount, Amount]
Decay = Annotated[float, Field(ge=0, lt=1)]


@section
class StageConfig:
    """One training stage: its steps, its batches, its learning rate."""

    steps: Count
    batch: Count
    seconds: Amount  # length of a training crop
    learning_rate: Amount
    warmup: Annotated[int, Field(ge=0)] = 500  # steps
    ema: Decay = 0.999
    clip: Amount = 1.0


@section
class TrainingConfig:
    """The recipe of a preset: its stages, and the data they draw."""

    autoencoder: StageConfig
    vocoder: StageConfig
    diffusion: StageConfig
    finish: StageConfig  # one evaluation from the noisiest time, scored in the log-mel
    encoder: StageConfig  # the encoder alone, everything else frozen
    carriers: StageConfig | None = None  # the gates and shape of a carrier vocoder
    seed: Annotated[int, Field(ge=0)] = 0
    validation_fraction: Share = 0.12  # of the sources, never of the clips
    validation_sources: tuple[str, ...] = ()  # named sources, in place of a fraction
    variants: Count = 4  # times the corpus is joined into albums and degraded anew
    album_seconds: Range = (10.0, 180.0)
    cutoff_hz: Range = (2_000.0, 16_000.0)
    mixed: Share = 0.33  # of albums mixed with recordings of another source
    codecs: Share = 0.2  # of albums that went through MP3, Vorbis or Opus
    equalised: Share = 0.3  # of albums whose tone is tilted
    own_bandwidth: Share = 0.15  # of albums whose originals end at 12 to 20 kHz
    context_seconds: Range = (8.0, 90.0)  # of a window; the density falls with length squared
    changing_bandwidth: Share = 0.5  # of contexts that are wide in parts, narrow in others
    borrowed: Share = 0.35  # of windows with a full-band clip of the same source appended
    strangers: Share = 0.07  # of windows with one of another source
    profiles_set: Share = 0.5  # of windows whose profile is set, wholly or in part
    pooling: tuple[Count, Count] = (1, 32)  # tokens averaged into one, log-uniform
    # The encoder's own stage: mostly where only the context can help, mostly at noisy times.
    encoder_changing_bandwidth: Share = 0.8
    encoder_timestep_power: Amount = 4.0

    def __post_init__(self) -> None:
        for name in ("album_seconds", "cutoff_hz", "context_seconds", "pooling"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low:g}, {high:g}]; give the smaller number first.")


def training_config(values: Mapping[str, Any]) -> TrainingConfig:
    """Read the ``training`` section; raises ConfigError."""
    return build(TrainingConfig, values, "training")
