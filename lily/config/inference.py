"""The ``inference`` section of a preset: how the engine runs it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lily.config.sections import Count, Share, section

LATENT_ALIGN = 8  # latent frames: chunks begin and end on the U-Net's coarsest stride
Guidance = Annotated[float, Field(ge=1)]


@section
class StepsRange:
    """The allowed numbers of sampler steps."""

    default: Count
    min: Count
    max: Count


@section
class GuidanceRange:
    """The allowed guidance scales; 1.0 turns guidance off."""

    default: Guidance
    min: Guidance
    max: Guidance


@section
class InferenceConfig:
    """How the engine runs a preset; lengths in latent frames of 0.08 s."""

    steps: StepsRange
    guidance: GuidanceRange
    samplers: Annotated[tuple[str, ...], Field(min_length=1)]
    sampler: str
    chunk: Annotated[int, Field(gt=0, multiple_of=LATENT_ALIGN)] = 64  # 5.12 s
    overlap: Annotated[int, Field(ge=0, multiple_of=LATENT_ALIGN)] = 8  # shared by neighbours
    fade: Annotated[int, Field(ge=0)] = 4  # of the overlap is cross-faded, the rest is guard
    batch: Count = 1  # (chunk, channel) items sampled together
    temperature: Share = 1.0  # scale of the initial noise: lower is nearer to the average answer
    guided: tuple[int, int] = (0, 1000)  # diffusion times from and below which guidance acts
    large: bool = False  # half precision is faster even on a CPU
    level_peak: Annotated[float, Field(gt=0, le=1)] = 0.5  # AudioSR's normalisation, undone later
    # Corrections of the generated band: (cutoff in Hz, dB at five levels of lily/dsp/level.py).
    level_db: tuple[tuple[Count, tuple[float, float, float, float, float]], ...] = ()
    # (cutoff in Hz, dB at six places from the cutoff to the highest mel).
    colour_db: tuple[tuple[Count, tuple[float, float, float, float, float, float]], ...] = ()
    # (cutoff in Hz, share) of the encoder's effect where all of the recording ends there; else 1.
    context_strength: tuple[tuple[Count, Share], ...] = ()
    # With a trained encoder on: of slow changes of level that the lows do not explain, taken out.
    steady_share: Share = 0.0
    # With an encoder that reads profiles on: lows recall highs that are known elsewhere.
    pair_memory: bool = False
    seed_max: Annotated[int, Field(gt=0, lt=2**63)] = 2**31 - 1

    def __post_init__(self) -> None:
        for name in ("steps", "guidance"):
            allowed = getattr(self, name)
            if not allowed.min <= allowed.default <= allowed.max:
                raise ValueError(
                    f"{name} is {allowed.default:g} of {allowed.min:g} to {allowed.max:g}; give "
                    "min <= default <= max."
                )
        if self.sampler not in self.samplers:
            raise ValueError(
                f"sampler is {self.sampler!r}; give one of samplers: {', '.join(self.samplers)}."
            )
        for name in ("level_db", "colour_db", "context_strength"):
            cutoffs = [cutoff_hz for cutoff_hz, _ in getattr(self, name)]
            if sorted(set(cutoffs)) != cutoffs:
                raise ValueError(f"{name} has cutoffs {cutoffs}; give rising ones, each once.")
        if self.overlap >= self.chunk:
            raise ValueError(
                f"overlap is {self.overlap} and chunk is {self.chunk}; chunks that advance need an "
                f"overlap of at most {self.chunk - LATENT_ALIGN} frames."
            )
        if self.fade > self.overlap:
            raise ValueError(
                f"fade is {self.fade}; a cross-fade lies within the overlap, so give 0 to "
                f"{self.overlap} frames."
            )
        if not 0 <= self.guided[0] <= self.guided[1] <= 1000:
            raise ValueError(f"guided is {list(self.guided)}; give two rising times of 0 to 1000.")
