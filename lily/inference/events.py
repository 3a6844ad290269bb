"""What the engine is asked and what it tells: options in, events out, one result at the end.

The command line, the page and the library read the same stream; nothing here computes. Times are in
seconds from the start of the recording, frequencies in Hz.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lily.bandwidth.diagnosis import Diagnosis
from lily.certify.check import Check

PROFILES = ("lily", "audiosr")  # Lily's own pipeline, or AudioSR's: lily/inference/profiles.py
FORMATS = ("wav", "flac")  # what an output may be


@dataclass(frozen=True)
class UpsampleOptions:
    """How one recording is filled in; ``None`` means the preset's own default."""

    encoder: bool = True  # False: exactly AudioSR's path, the global encoder is never run
    steps: int | None = None  # sampler evaluations; past 50 few ears hear a difference
    sampler: str | None = None  # "dpmpp2m" or "ddim"
    guidance: float | None = None  # 1.0 turns guidance off and halves the work
    seed: int | None = None  # None draws one; the result tells which
    # None: detected, as the profile does. Where it changes, pieces of (start in seconds, Hz), the
    # first at 0.
    cutoff_hz: float | tuple[tuple[float, float], ...] | None = None
    profile: str = "lily"  # one of PROFILES
    longest_seconds: float | None = None  # a longer recording is refused while it is measured
    format: str = "wav"  # one of FORMATS
    resume: bool = False  # go on where a run with these options ended, if its chunks are kept


@dataclass(frozen=True)
class Reading:
    """The recording is read before anything is generated: ``seconds`` of it so far."""

    seconds: float


@dataclass(frozen=True)
class Measured:
    """Pass 1 is done: what the recording is."""

    name: str
    sample_rate: int
    channels: int
    seconds: float
    cutoff_hz: float
    full_band: bool
    finding: Diagnosis | None = None


@dataclass(frozen=True)
class ContextRead:
    """Pass 2 reads the whole recording for the encoder; ``done`` runs from 0 to 1."""

    done: float


@dataclass(frozen=True)
class Planned:
    """The chunks that will be filled, as (start, stop) in seconds, and the settings in force."""

    chunks: tuple[tuple[float, float], ...]
    steps: int
    sampler: str
    guidance: float
    seed: int
    encoder: bool
    memory: int | None = None  # bytes that tensors take at most; None where a model is small


@dataclass(frozen=True)
class Sampling:
    """These chunks (indices into the plan) have finished ``step`` of ``steps``."""

    chunks: tuple[int, ...]
    step: int
    steps: int
    take: int = 0  # of a comparison: 0 is encoder off, 1 is on


@dataclass(frozen=True)
class ChunksDone:
    """These chunks are generated; ``done`` of ``total`` are finished so far."""

    chunks: tuple[int, ...]
    done: int
    total: int
    take: int = 0  # of a comparison: 0 is encoder off, 1 is on


@dataclass(frozen=True)
class UpsampleResult:
    """One finished 48 kHz file and the figures that describe it."""

    output: Path
    sample_rate: int
    channels: int
    samples: int
    cutoff_hz: float
    chunks: int  # 0: the band was already full and the recording is returned as it was
    seed: int
    steps: int
    sampler: str
    guidance: float
    encoder: bool
    model: str
    seconds: float  # of audio
    compute_seconds: float
    input_sample_rate: int
    subtype: str  # PCM_24, or FLOAT where 24 bits would have clipped
    message: str = ""  # a sentence for the user, empty when all is ordinary
    complete: bool = True  # False: stopped early, the file holds the chunks finished by then
    figures: Mapping[str, float] = field(default_factory=dict)
    profile: str = "lily"
    resumed: int = 0  # of the chunks, those that an earlier run had finished
    metadata: Path | None = None  # the JSON file beside it
    checks: tuple[Check, ...] = ()  # measurements of the output, held to their limits
    finding: Diagnosis | None = None

    @property
    def real_time_factor(self) -> float:
        """Compute time divided by audio time; below 1 is faster than listening."""
        return self.compute_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Finished:
    """The file is in place."""

    result: UpsampleResult


@dataclass(frozen=True)
class ComparisonResult:
    """One recording filled in twice from the same noise: the encoder is the only difference."""

    off: UpsampleResult
    on: UpsampleResult
    difference: Path  # on - off, sample by sample
    chunks: tuple[tuple[float, float], ...]  # (start, stop) in seconds, those that are finished
    recording: Path | None = None  # the input at 48 kHz, if stems were asked for
    low: Path | None = None  # what both takes keep of it, if stems were asked for


@dataclass(frozen=True)
class Compared:
    """Both takes and their difference are in place."""

    result: ComparisonResult


Event = Reading | Measured | ContextRead | Planned | Sampling | ChunksDone | Finished | Compared


class StopEarly(Exception):
    """Throw it into a stream to end it within a step and keep the chunks that are finished.

    The stream answers with its last event, or raises it again if there is nothing to keep.
    """
