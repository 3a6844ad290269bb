"""The one place that says how the profiles differ: Lily's own pipeline, and AudioSR's reproduced.

``audiosr`` hands the networks what AudioSR would and samples as it does, so that with the encoder
off its latent is AudioSR's for the same noise. What follows the vocoder is Lily's in both: level
and start kept, the band below the cutoff the recording's own. docs/method.md has the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lily.config.inference import LATENT_ALIGN, InferenceConfig
from lily.diffusion.samplers import AUDIOSR, AUDIOSR_STEPS
from lily.errors import InputError
from lily.inference.events import FORMATS, UpsampleOptions
from lily.inference.options import CUTOFFS_HZ, pieces, within

SHORTEST = 64  # latent frames, 5.12 s: the unit of AudioSR's own lengths; no chunk is halved below
# Up to here a recording is one chunk: three segments of 5.12 s, the most AudioSR's own chunks hold.
WHOLE = 192  # latent frames of 0.08 s


@dataclass(frozen=True)
class Profile:
    """What is done differently; ``None`` leaves it to the preset."""

    name: str
    prepares: bool  # as lily/dsp/audiosr.py: a channel's level, the share's cutoff, its low-pass
    draws_low: bool  # the low-pass latent is a draw of the posterior, not its mean
    replaces_share: bool  # mels below the share's bin are put back, not all below the cutoff
    whole: int  # latent frames up to which a recording is one chunk
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    guided: tuple[int, int] | None = None  # times of 1000 at which guidance acts

    def chunk(self, latents: int, preset: int) -> int:
        """Latent frames of a chunk for a recording of ``latents``, where the preset has its own."""
        if latents <= self.whole:
            return latents
        length = max(preset, self.whole)
        # Half a chunk of padding is half of the work: a recording that fits the half gets it.
        while length // 2 >= max(latents, SHORTEST) and length % (2 * LATENT_ALIGN) == 0:
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
    ),
}


def completed(options: UpsampleOptions, preset: InferenceConfig, seed: int) -> UpsampleOptions:
    """The options with the profile's and the preset's defaults, and ``seed`` where none is given.

    Raises InputError for a wrong one.
    """
    if options.profile not in PROFILES:
        known = " or ".join(PROFILES)
        raise InputError(f"Profile {options.profile!r} is not known; choose {known}.")
    profile = PROFILES[options.profile]
    steps = _first(options.steps, profile.steps, preset.steps.default)
    guidance = _first(options.guidance, profile.guidance, preset.guidance.default)
    sampler = options.sampler or profile.sampler or preset.sampler
    seed = _first(options.seed, seed)
    within("steps", steps, preset.steps.min, preset.steps.max)
    within("guidance", guidance, preset.guidance.min, preset.guidance.max)
    within("seed", seed, 0, preset.seed_max)
    if options.format not in FORMATS:
        raise InputError(f"Format {options.format!r} is not known; give {' or '.join(FORMATS)}.")
    given = pieces(options.cutoff_hz)
    for _, cutoff_hz in given:
        within("cutoff in Hz", cutoff_hz, *CUTOFFS_HZ)
    if len(given) > 1 and profile.prepares:
        raise InputError(
            f"Profile {profile.name} takes one cutoff; {len(given)} pieces were given."
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
    return replace(options, steps=steps, guidance=float(guidance), sampler=sampler, seed=int(seed))


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
