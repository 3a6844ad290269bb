"""What pass 1 tells the others, and which choices are allowed.

Times are in seconds at the border and in samples at 48 kHz inside; frequencies are in Hz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lily.audio.read import AudioInfo
from lily.bandwidth.diagnosis import Diagnosis
from lily.dsp.audiosr import Prepared
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.splice import Splicer
from lily.errors import InputError
from lily.inference.events import Measured

CUTOFFS_HZ = (500.0, 23_000.0)  # what --cutoff may be: below, AudioSR never saw an example
LAST_SECOND = 1e6  # of a piece's start: eleven days
MOST_PIECES = 64  # of a cutoff: each distinct one filters the whole recording
CUTOFF_FORM = "give Hz, such as 8000, or pieces as SECOND:HZ, such as 0:4000,62.5:20000"
Pieces = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Measurement:
    """What pass 1 finds, at 48 kHz."""

    name: str
    info: AudioInfo
    samples: int
    peak: float  # around the mean of each channel
    means: Tensor  # (C, 1): the DC of each channel, kept from the networks
    peaks: Tensor  # (C, 1): the largest distance from it
    cutoffs: Cutoffs
    full_band: bool
    finding: Diagnosis
    sha256: str  # of the recording as its file holds it: lily/audio/sample_hash.py
    prepared: Prepared | None = None  # by AudioSR's rules, where the profile asks for it

    @property
    def cutoff_hz(self) -> float:
        """The lowest cutoff: below it all is the recording."""
        return self.cutoffs.lowest_hz

    def splicer(self) -> Splicer:
        """What joins the recording and one generated take."""
        return Splicer(self.cutoffs, 48_000, self.info.channels)

    def told(self) -> Measured:
        """This, as the event that says so."""
        return Measured(
            self.name,
            self.info.sample_rate,
            self.info.channels,
            self.seconds,
            self.cutoff_hz,
            self.full_band,
            self.finding,
        )

    @property
    def seconds(self) -> float:
        """The recording's duration."""
        return self.samples / 48_000


def pieces(cutoff_hz: float | Pieces | None) -> Pieces:
    """A cutoff as pieces of (start in seconds, Hz); none where it is to be detected."""
    if cutoff_hz is None:
        return ()
    return ((0.0, cutoff_hz),) if isinstance(cutoff_hz, int | float) else cutoff_hz


def cutoffs_of(text: str) -> float | Pieces:
    """Read a cutoff in Hz such as 8000, or pieces such as 0:4000,62.5:20000; raises InputError."""
    pairs = [piece.split(":") for piece in text.split(",")] if ":" in text else [["0", text]]
    try:
        read = tuple((float(second), float(hz)) for second, hz in pairs)
    except ValueError as error:
        raise InputError(f"{text!r} is no cutoff; {CUTOFF_FORM}.") from error
    if not all(0 <= second <= LAST_SECOND and math.isfinite(hz) for second, hz in read):
        raise InputError(f"{text!r} has a time or a frequency that cannot be; {CUTOFF_FORM}.")
    if len(read) > MOST_PIECES:
        raise InputError(f"The cutoff has {len(read)} pieces; at most {MOST_PIECES} are followed.")
    return read if ":" in text else read[0][1]


def cutoffs_text(cutoff_hz: float | Pieces) -> str:
    """The same as text, to the last digit, so that reading it gives the same cutoff."""
    if isinstance(cutoff_hz, int | float):
        return digits(cutoff_hz)
    return ",".join(f"{digits(second)}:{digits(hz)}" for second, hz in cutoff_hz)


def digits(value: float) -> str:
    """The shortest text that reads as the same number."""
    return repr(float(value)).removesuffix(".0")


def refuse_longer(name: str, seconds: float, longest: float | None) -> None:
    """Raise InputError if a recording has more seconds than are taken here."""
    if longest is not None and seconds > longest:
        raise InputError(
            f"{name} is longer than {longest / 60:g} min, the most that is taken here; cut it, or "
            "use the command line."
        )


def make_folder(path: Path) -> None:
    """Make the output folder; raises InputError if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {path} cannot be made ({error.strerror}); give another."
        ) from error


def leaves_nothing(given: Pieces, cutoffs: Cutoffs) -> bool:
    """Whether there is nothing to fill in; one cutoff that is given is always filled from."""
    return cutoffs.full and len(given) != 1


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless low <= value <= high."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value:.10g}; give {low:.10g} to {high:.10g}.")
