"""What a caller may choose for one recording, and the checks of each choice.

Times are in seconds, frequencies in Hz. This module needs no torch, so that a command line can
report a wrong option at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from lily.errors import InputError

PROFILE_NAMES = ("lily", "audiosr")  # Lily's own pipeline, or AudioSR's: lily/inference/profiles.py
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("wav", "flac")  # of an output file
CUTOFFS_HZ = (500.0, 23_000.0)  # AudioSR was never trained below the first
HIGHEST_WALL_HZ = 24_000.0  # where the band of an original can end
BRIGHTNESS_DB = (-24.0, 24.0)  # further from the expected level no recording lies
LAST_START = 1e6  # seconds, eleven days: the latest start of a cutoff segment
MOST_SEGMENTS = 64  # of a cutoff: each distinct one filters the whole recording
CUTOFF_FORM = "give Hz, such as 8000, or segments as SECOND:HZ, such as 0:4000,62.5:20000"
Segments = tuple[tuple[float, float], ...]  # (start in seconds, cutoff in Hz), rising from 0
TAKES_FORM = "give SECOND:SEED,SECOND:SEED, such as 12.5:9,40:3"
Takes = tuple[tuple[float, int], ...]  # (second, seed of the chunk that holds it)


@dataclass(frozen=True)
class UpsampleOptions:
    """How one recording is processed; ``None`` means the preset's own default."""

    encoder: bool = True  # False: exactly AudioSR's path, the global encoder is never run
    steps: int | None = None  # sampler evaluations; past 50 few listeners hear a difference
    sampler: str | None = None  # "dpmpp2m" or "ddim"
    guidance: float | None = None  # 1.0 turns guidance off and halves the work
    seed: int | None = None  # None draws one, which the result names
    takes: Takes = ()  # chunks that are generated from a seed of their own
    cutoff_hz: float | Segments | None = None  # None: detected
    profile: str = "lily"  # one of PROFILE_NAMES
    context_files: tuple[Path, ...] = ()  # recordings of the same source that have their highs
    wall_hz: float | None = None  # where the original's band ended; None: as generated
    brightness_db: float | None = None  # added to the generated highs
    temporal_shape: bool | None = None  # attacks as sharp as the recording's; None: the profile's
    longest_seconds: float | None = None  # a longer recording is refused during analysis
    format: str = "wav"  # one of FORMATS
    resume: bool = False  # continue an earlier run with the same options from its finished chunks
    chunk_folder: Path | None = None  # where those are kept; None: <output>.part, beside the output
    keep_chunks: bool = False  # also those of a complete run, for other takes of some chunks

    def choices(self, seed_drawn: bool) -> UpsampleOptions:
        """What all chunks without a take of their own depend on, borrowed recordings apart."""
        return replace(
            self,
            seed=None if seed_drawn else self.seed,
            takes=(),
            resume=False,
            chunk_folder=None,
            keep_chunks=False,
            longest_seconds=None,
            format="wav",
            context_files=(),
        )


def cutoff_segments(cutoff_hz: float | Segments | None) -> Segments:
    """A cutoff as segments; none if it is to be detected."""
    if cutoff_hz is None:
        return ()
    return ((0.0, cutoff_hz),) if isinstance(cutoff_hz, int | float) else cutoff_hz


def parse_cutoff(text: str) -> float | Segments:
    """Read a cutoff such as ``8000``, or segments such as ``0:4000,62.5:20000``.

    Raises InputError.

    >>> parse_cutoff("0:4000,62.5:20000")
    ((0.0, 4000.0), (62.5, 20000.0))
    """
    pairs = [piece.split(":") for piece in text.split(",")] if ":" in text else [["0", text]]
    try:
        segments = tuple((float(second), float(hz)) for second, hz in pairs)
    except ValueError as error:
        raise InputError(f"{text!r} is not a cutoff; {CUTOFF_FORM}.") from error
    if not all(0 <= second <= LAST_START and math.isfinite(hz) for second, hz in segments):
        raise InputError(f"{text!r} has an impossible time or frequency; {CUTOFF_FORM}.")
    if len(segments) > MOST_SEGMENTS:
        raise InputError(
            f"The cutoff has {len(segments)} segments; at most {MOST_SEGMENTS} are allowed."
        )
    return segments if ":" in text else segments[0][1]


def format_cutoff(cutoff_hz: float | Segments) -> str:
    """The cutoff as text from which ``parse_cutoff`` reads exactly the same value."""
    if isinstance(cutoff_hz, int | float):
        return shortest(cutoff_hz)
    return ",".join(f"{shortest(second)}:{shortest(hz)}" for second, hz in cutoff_hz)


def parse_takes(text: str) -> Takes:
    """Read takes such as ``12.5:9,40:3``: the chunk that holds second 12.5 from seed 9, and so on.

    Raises InputError.

    >>> parse_takes("12.5:9,40:3")
    ((12.5, 9), (40.0, 3))
    """
    try:
        pairs = [piece.split(":") for piece in text.split(",")]
        takes = tuple((float(second), int(seed)) for second, seed in pairs)
    except ValueError as error:
        raise InputError(f"{text!r} is no list of takes; {TAKES_FORM}.") from error
    if not all(0 <= second <= LAST_START for second, _ in takes):
        raise InputError(f"{text!r} has an impossible time; {TAKES_FORM}.")
    return takes


def format_takes(takes: Takes) -> str:
    """The takes as text from which ``parse_takes`` reads exactly the same values."""
    return ",".join(f"{shortest(second)}:{seed}" for second, seed in takes)


def shortest(value: float) -> str:
    """The shortest text that reads as the same number."""
    return repr(float(value)).removesuffix(".0")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless low <= value <= high."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value:.10g}; give {low:.10g} to {high:.10g}.")


def check_duration(name: str, seconds: float, longest: float | None) -> None:
    """Raise InputError if a recording is longer than ``longest`` seconds."""
    if longest is not None and seconds > longest:
        raise InputError(
            f"{name} is longer than {longest / 60:g} min, the limit here; cut it, or use the "
            "command line."
        )
