"""The profiles and how they differ: Lily's own pipeline, and a reproduction of AudioSR's.

``audiosr`` prepares the recording and samples as AudioSR does: with the encoder off its latent is
AudioSR's for the same noise. What follows the vocoder is the same in both: level and start are
kept, and the band below the cutoff is the recording's own. docs/method.md has the whole table.
Needs no torch, so that a command line refuses a wrong option at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lily.config.inference import LATENT_ALIGN, InferenceConfig
from lily.config.presets import Config, unet_config
from lily.config.sections import build
from lily.diffusion.names import AUDIOSR, AUDIOSR_STEPS
from lily.errors import InputError
from lily.inference.options import (
    BRIGHTNESS_DB,
    CUTOFFS_HZ,
    FORMATS,
    HIGHEST_WALL_HZ,
    UpsampleOptions,
    check_range,
    cutoff_segments,
)

SHORTEST = 64  # latent frames, 5.12 s: no chunk is made shorter, as in AudioSR
# Up to this length a recording is one chunk: three segments of 5.12 s, AudioSR's longest chunk.
WHOLE = 192  # latent frames of 0.08 s


@dataclass(frozen=True)
class Profile:
    """What a profile does differently; ``None`` leaves it to the preset."""

    name: str
    prepares: bool  # level, cutoff and low-pass of each channel as in lily/dsp/audiosr.py
    draws_low: bool  # the low-pass latent is a draw from the posterior instead of its mean
    replaces_share: bool  # the known band of a chunk ends where 98.5 % of its magnitude lies below
    whole: int  # latent frames up to which a recording is one chunk
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    guided: tuple[int, int] | None = None  # times of 1000 at which guidance acts
    temperature: float | None = None  # scale of the initial noise

    def chunk(self, latents: int, preset: int) -> int:
        """Length of a chunk for a recording of ``latents`` frames, given the preset's own length.

        A recording that fits half a chunk gets one, since padding costs as much as sound; but only
        if the U-Net can take the half.
        """
        if latents <= self.whole:
            return latents
        length = max(preset, self.whole)
        while length % (2 * LATENT_ALIGN) == 0 and length // 2 >= max(latents, SHORTEST):
            length //= 2
        return length


PROFILES: Mapping[str, Profile] = {
    "lily": Profile("lily", prepares=False, draws_low=False, replaces_share=False, whole=0),
    "audiosr": Profile(
        "audiosr",
        prepares=True,
        draws_low=True,
        replaces_share=True,
        whole=WHOLE,
        sampler=AUDIOSR,
        steps=50,  # the defaults of AudioSR's command line
        guidance=3.5,
        guided=(0, 1000),
        temperature=1.0,
    ),
}


def completed(options: UpsampleOptions, config: Config, seed: int = 0) -> UpsampleOptions:
    """Fill in the defaults of the profile and of a model's configuration, and a ``seed``.

    Raises InputError for an option that is not allowed, or that this model cannot follow.
    """
    preset = build(InferenceConfig, config["inference"], "inference")
    options = with_defaults(options, preset, seed)
    unet = unet_config(config["model"]["params"]["unet_config"]["params"])
    name = config.get("name", "model")
    if options.encoder and not unet.use_global_encoder:
        raise InputError(f"{name} has no global encoder; choose encoder off.")
    if options.context_files and not unet.global_encoder.profile:
        raise InputError(
            f"The encoder of {name} reads no profile, so it takes no context; choose a model "
            "whose encoder does."
        )
    if options.context_files and not preset.pair_memory:
        raise InputError(
            f"{name} remembers no pairs of lows and highs (pair_memory in its preset), so a "
            "context would change nothing; choose a model that does."
        )
    return options


def with_defaults(options: UpsampleOptions, preset: InferenceConfig, seed: int) -> UpsampleOptions:
    """Fill in the profile's and the preset's defaults, and ``seed`` if none is given.

    Raises InputError for an option that is not allowed.
    """
    if options.profile not in PROFILES:
        known = " or ".join(PROFILES)
        raise InputError(f"Profile {options.profile!r} is not known; choose {known}.")
    profile = PROFILES[options.profile]
    steps = _first(options.steps, profile.steps, preset.steps.default)
    guidance = _first(options.guidance, profile.guidance, preset.guidance.default)
    sampler = options.sampler or profile.sampler or preset.sampler
    seed = _first(options.seed, seed)
    check_range("steps", steps, preset.steps.min, preset.steps.max)
    check_range("guidance", guidance, preset.guidance.min, preset.guidance.max)
    check_range("seed", seed, 0, preset.seed_max)
    for _, take in options.takes:
        check_range("seed of a take", take, 0, preset.seed_max)
    if options.brightness_db is not None:
        check_range("brightness in dB", options.brightness_db, *BRIGHTNESS_DB)
    if options.wall_hz is not None:
        check_range("wall in Hz", options.wall_hz, CUTOFFS_HZ[0], HIGHEST_WALL_HZ)
    if not options.encoder and options.context_files:
        raise InputError("A context needs the encoder; turn it on.")
    if options.format not in FORMATS:
        raise InputError(f"Format {options.format!r} is not known; give {' or '.join(FORMATS)}.")
    given = cutoff_segments(options.cutoff_hz)
    for _, cutoff_hz in given:
        check_range("cutoff in Hz", cutoff_hz, *CUTOFFS_HZ)
    if len(given) > 1 and profile.prepares:
        raise InputError(
            f"Profile {profile.name} takes one cutoff; {len(given)} segments were given."
        )
    samplers = (profile.sampler,) if profile.sampler else preset.samplers
    if sampler not in samplers:
        raise InputError(
            f"Sampler {sampler!r} is not known to profile {profile.name}; choose "
            f"{' or '.join(samplers)}."
        )
    if sampler == AUDIOSR and steps not in AUDIOSR_STEPS:
        nearest = min(AUDIOSR_STEPS, key=lambda count: abs(count - steps))
        raise InputError(
            f"steps is {steps}; profile {profile.name} takes numbers that divide 1000, the "
            f"nearest is {nearest}."
        )
    if options.temporal_shape and profile.prepares:
        raise InputError(f"Profile {profile.name} has no temporal shape; leave it off.")
    shaped = not profile.prepares if options.temporal_shape is None else options.temporal_shape
    return replace(
        options,
        steps=steps,
        guidance=float(guidance),
        sampler=sampler,
        seed=int(seed),
        temporal_shape=shaped,
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
