"""State what a run will have to do, and its typical compute time: lily-mini on two cores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lily.audio.read import probe
from lily.config.inference import InferenceConfig
from lily.ui.request import Request

LATENT_SECONDS = 0.08  # of a latent frame, in which presets count chunks
# Compute seconds per second of audio and channel; of sampling, per evaluation of the U-Net; of
# loading, seconds in all. Filling is sampling and vocoding. What matters is their ratio: a slow
# machine is slow in all of them.
TYPICAL = {"loading": 1.1, "measuring": 0.03, "reading": 0.023, "preparing": 0.018}
TYPICAL |= {"sampling": 0.035, "vocoding": 0.145, "drawing": 0.004}
TYPICAL |= {"comparing": 0.03}  # a part of drawing


@dataclass(frozen=True)
class Workload:
    """What a run will have to do: seconds of audio, and evaluations of the U-Net for each chunk.

    ``batch_seconds`` is the audio that a batch of chunks advances by: short ones are padded.
    """

    preset: str
    seconds: float
    evaluations: int  # of one variant
    encoder: bool = True
    channels: int = 1
    batch_seconds: float = 0.0
    loads: bool = False  # the model is not in memory yet
    variants: int = 1

    @property
    def sampling(self) -> float:
        """Typical seconds that the sampler takes."""
        seconds = self.seconds * self.channels
        if self.batch_seconds:
            seconds = math.ceil(seconds / self.batch_seconds) * self.batch_seconds
        return TYPICAL["sampling"] * self.evaluations * self.variants * seconds

    @property
    def vocoding(self) -> float:
        """Typical seconds that the vocoder takes."""
        return TYPICAL["vocoding"] * self.variants * self.seconds * self.channels

    def filled(self, sampled: float, written: float) -> float:
        """The share of filling that is done, from the shares sampled and written."""
        done = sampled * self.sampling + written * self.vocoding
        return done / max(self.sampling + self.vocoding, 1e-9)

    def typical(self, name: str) -> float:
        """Seconds that a pass takes where nothing is known of this server; 0 if it is left out."""
        if name == "filling":
            return self.sampling + self.vocoding
        if name == "loading":
            return TYPICAL["loading"] * self.loads
        if name == "reading" and not self.encoder:
            return 0.0
        if name == "drawing" and self.variants > 1:
            return (TYPICAL[name] + TYPICAL["comparing"]) * self.seconds * self.channels
        return TYPICAL[name] * self.seconds * self.channels


def workload(
    asked: Request, preset: str, bounds: InferenceConfig, encoder: bool, loads: bool
) -> Workload | None:
    """What a request has ``preset`` do; None if the file does not say how long it is."""
    info = probe(asked.recording)
    if info.seconds is None:
        return None
    guidance = bounds.guidance.default if asked.guidance is None else asked.guidance
    first, end = bounds.guided if guidance > 1 else (0, 0)
    rows = 1 + (end - first) / 1000  # of an evaluation, on average: guided ones have two
    return Workload(
        preset,
        info.seconds,
        round((asked.steps or bounds.steps.default) * rows),
        encoder,
        info.channels,
        bounds.batch * (bounds.chunk - bounds.overlap) * LATENT_SECONDS,
        loads=loads,
        variants=1 + asked.compares,
    )
