"""The events of a run, in order, and its result.

The command line, the page and the library read the same stream. Times are in seconds from the start
of the recording, frequencies in Hz. A run makes one variant of a recording, or two to compare:
variant 0 with the encoder off and variant 1 with it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lily.certify.check import Check, peak_note

if TYPE_CHECKING:  # importing it takes torch, which a command line may not need
    from torch import Tensor

    from lily.bandwidth.diagnosis import Diagnosis


UNLIKE = 0.05  # a share of the generated band below which a context is hardly heard


@dataclass(frozen=True)
class Reading:
    """A recording is being analyzed; ``seconds`` of it have been read."""

    seconds: float


@dataclass(frozen=True)
class Analyzed:
    """Pass 1 is done: length, level and bandwidth are known."""

    name: str
    sample_rate: int
    channels: int
    seconds: float
    cutoff_hz: float
    full_band: bool
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True)
class ContextRead:
    """Pass 2 reads the whole recording into the global encoder; ``done`` runs from 0 to 1."""

    done: float


@dataclass(frozen=True)
class Planned:
    """The chunks that will be generated, as (start, stop) in seconds, and the settings used."""

    chunks: tuple[tuple[float, float], ...]
    steps: int
    sampler: str
    guidance: float
    seed: int
    encoder: bool
    memory: int | None = None  # bytes that tensors will take at most; None for a small model


@dataclass(frozen=True)
class Sampling:
    """These chunks (indices into the plan) have finished ``step`` of ``steps``."""

    chunks: tuple[int, ...]
    step: int
    steps: int
    variant: int = 0


@dataclass(frozen=True)
class ChunksDone:
    """These chunks are generated; ``done`` of ``total`` are finished so far."""

    chunks: tuple[int, ...]
    done: int
    total: int
    variant: int = 0


@dataclass(frozen=True)
class Written:
    """The outputs hold their first ``seconds``, which nothing changes any more.

    ``files`` are the unfinished files of the variants: WAV whose header says no length yet, unless
    another format was chosen. ``blocks`` (C, n) are the samples that were appended to them.
    """

    seconds: float
    files: tuple[Path, ...]
    blocks: tuple[Tensor, ...]


@dataclass(frozen=True)
class ContextUse:
    """The borrowed recordings that informed a run."""

    files: tuple[str, ...]  # names
    # How much they count above the cutoff on average, from 0, the model alone, to 1; None where
    # every chunk is from an earlier run.
    share: float | None

    @property
    def sentence(self) -> str:
        """What was used and how far it was trusted."""
        names = ", ".join(self.files)
        if self.share is None:
            return f"Context: {names}, as in the earlier run that the chunks are from."
        whose = "its" if len(self.files) == 1 else "their"
        trusted = f"{whose} highs count for {self.share:.0%} of what was generated"
        if self.share < UNLIKE:
            return f"Context: {names}; too unlike this recording to be trusted: {trusted}."
        return f"Context: {names}; {trusted}."


@dataclass(frozen=True)
class UpsampleResult:
    """A finished 48 kHz file and its measurements."""

    output: Path
    sample_rate: int
    channels: int
    samples: int
    cutoff_hz: float
    chunks: int  # 0: nothing was missing and the recording is returned as it was
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
    message: str = ""  # a sentence for the user; empty in the ordinary case
    complete: bool = True  # False: stopped early, the file holds the chunks finished by then
    figures: Mapping[str, float] = field(default_factory=dict)
    profile: str = "lily"
    takes: tuple[tuple[float, int], ...] = ()  # (second, seed) of chunks with a seed of their own
    resumed: int = 0  # of the chunks, those that an earlier run had finished
    metadata: Path | None = None  # the JSON file beside it
    checks: tuple[Check, ...] = ()  # measurements of the output, held to their limits
    diagnosis: Diagnosis | None = None
    expectation: str = ""  # what the encoder expects of the highs, as a sentence
    context: ContextUse | None = None  # borrowed recordings, if any were used
    format_note: str = ""  # why the format differs from the recording's or the one asked for

    @property
    def real_time_factor(self) -> float:
        """Compute time divided by the duration generated in it; below 1 is faster than real time.

        Chunks that an earlier run had finished do not count.
        """
        new = 1 - self.resumed / self.chunks if self.chunks else 1.0
        seconds = self.seconds * new
        return self.compute_seconds / seconds if seconds else 0.0

    @property
    def peak_note(self) -> str:
        """What to do about a true peak above full scale, in a sentence; empty if there is none."""
        return peak_note(self.checks, self.subtype) if self.chunks else ""

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values, the same for the command line, the page and a batch."""
        return {
            "output": str(self.output),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "samples": self.samples,
            "seconds": round(self.seconds, 3),
            "cutoff_hz": round(self.cutoff_hz, 1),
            "chunks": self.chunks,
            "seed": self.seed,
            "steps": self.steps,
            "sampler": self.sampler,
            "guidance": self.guidance,
            "real_time_factor": round(self.real_time_factor, 4),
            "encoder": "on" if self.encoder else "off",
            "profile": self.profile,
            "model": self.model,
            "input_sample_rate": self.input_sample_rate,
            "subtype": self.subtype,
            "message": self.message,
            "complete": self.complete,
            "resumed": self.resumed,
            "takes": [list(take) for take in self.takes],
            "figures": dict(self.figures),
            "metadata": None if self.metadata is None else str(self.metadata),
            "checks": [asdict(check) for check in self.checks],
            "peak_note": self.peak_note,
            "format_note": self.format_note,
            "expectation": self.expectation,
            "context": self.context and asdict(self.context),
            "finding": self.diagnosis and self.diagnosis.to_dict(),
        }


@dataclass(frozen=True)
class Finished:
    """The output file is in place."""

    result: UpsampleResult


@dataclass(frozen=True)
class ComparisonResult:
    """A recording in two variants from the same noise: the encoder is the only difference."""

    off: UpsampleResult
    on: UpsampleResult
    difference: Path  # on - off, sample by sample
    chunks: tuple[tuple[float, float], ...]  # (start, stop) in seconds, those that are finished
    recording: Path | None = None  # the input at 48 kHz, if stems were asked for
    low: Path | None = None  # the band that both variants keep of it, if stems were asked for

    def to_dict(self) -> dict[str, Any]:
        """The settings that both variants share, as JSON values; no times and no files."""
        of_both = self.on.to_dict()
        keys = ("model", "seed", "steps", "sampler", "guidance", "cutoff_hz", "sample_rate")
        keys += ("channels", "samples", "complete", "message")
        return {key: of_both[key] for key in keys}


@dataclass(frozen=True)
class Compared:
    """Both variants and their difference are in place."""

    result: ComparisonResult


@dataclass(frozen=True)
class Failed:
    """Of several recordings that run together, this one has ended in an error."""

    error: Exception


Event = (
    Reading
    | Analyzed
    | ContextRead
    | Planned
    | Sampling
    | ChunksDone
    | Written
    | Finished
    | Compared
    | Failed
)
