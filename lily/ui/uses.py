"""Settings by use: what a recording is, in a musician's words, and the settings that suit it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """Where the highs of such recordings end; an empty cutoff is detected."""

    name: str
    cutoff: str  # as the field takes it, in Hz
    why: str


USES = (
    Use("Anything", "", "the cutoff is detected, also where it changes"),
    Use("Phone call", "3400", "a telephone line ends at 3.4 kHz; noise above it is replaced"),
    Use("Cassette", "10000", "above 10 kHz a tape has mostly hiss, which is replaced"),
    Use("Old MP3", "15500", "128 kbit/s ends at 16 kHz, frayed from 15.5 kHz on"),
    Use("Low-rate podcast", "7500", "speech at 16 kHz or 32 kbit/s ends below 8 kHz"),
)


def cutoff_of(name: str) -> str:
    """The cutoff for a use's name; of an unknown one, detected."""
    return next((use.cutoff for use in USES if use.name == name), "")
