"""What decoding reports besides samples: a file's description, and what was repaired."""

from __future__ import annotations

from dataclasses import dataclass

from lily.errors import InputError

MAX_CHANNELS = 8  # 7.1, the most that the written WAV has speaker names for
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz: a telegraph and the fastest converter sold


@dataclass(frozen=True)
class AudioInfo:
    """Description of a file by its header; `frames` is None where that does not count samples."""

    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str
    speakers: int | None = None  # WAVE speaker mask, None where the file has none

    @property
    def seconds(self) -> float | None:
        """The duration, where it is known."""
        return None if self.frames is None else self.frames / self.sample_rate


@dataclass(frozen=True)
class DecodeWarning:
    """Something that decoding repaired or left out.

    `start` and `seconds` say where in the decoded recording and how long; a warning about the
    whole file has `start` 0 and `seconds` 0.
    """

    text: str  # one sentence for the user
    start: float = 0.0
    seconds: float = 0.0


def within_limits(name: str, info: AudioInfo) -> AudioInfo:
    """Return a description; raises InputError if it is outside the limits."""
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise InputError(
            f"{name} has {info.channels} channels; at most {MAX_CHANNELS} are allowed, "
            "so mix it down first."
        )
    if not MIN_RATE <= info.sample_rate <= MAX_RATE:
        raise InputError(
            f"{name} says its sample rate is {info.sample_rate} Hz; "
            f"{MIN_RATE} to {MAX_RATE} Hz are allowed."
        )
    return info


def clock(seconds: float) -> str:
    """A position for a sentence: 1:02:03.45, 2:03.45 or 3.45 s."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6_000)
    if not minutes:
        return f"{rest / 100:.2f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 100:05.2f}" if hours else f"{minutes}:{rest / 100:05.2f}"
