"""What an evaluation or a benchmark measures, and the checks of it; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from lily.errors import InputError

JUDGES = {"zimtohrli": "zimtohrli", "visqol": "visqol"}  # perceptual metrics and their packages


@dataclass(frozen=True)
class Case:
    """One way of losing the highs: its kind, and its cutoff in Hz or bit rate in kbit/s."""

    kind: str  # of lily.evaluation.cases
    value: float

    @property
    def name(self) -> str:
        """How tables call it."""
        unit = "kbps" if self.kind == "mp3" else "hz"
        return f"{self.kind}_{self.value:g}{unit}"


@dataclass(frozen=True)
class Settings:
    """What an evaluation measures, besides the recordings."""

    cases: tuple[Case, ...]
    seconds: float = 30.0  # of each recording, from its start
    seeds: int = 1  # draws of the model, averaged
    first_seed: int = 0
    steps: int | None = None
    encoder: tuple[bool, ...] = (False, True)
    controls: tuple[str, ...] = ()  # names of the cases in which the context controls are run
    informed: tuple[str, ...] = ()  # names of the cases in which the encoder is given more
    judges: tuple[str, ...] = ()  # perceptual metrics

    def check(self) -> None:
        """Raise InputError for a duration of no use, or a judge that is not installed."""
        if not self.seconds > 0:
            raise InputError(f"{self.seconds:g} seconds cannot be measured; give more than 0.")
        check_judges(self.judges)


@dataclass(frozen=True)
class BenchSettings:
    """What a benchmark measures, beyond the options of its runs."""

    seconds: float = 20.48  # of audio a round
    channels: int = 1
    rounds: int = 3  # of each of encoder on and off, alternating
    growth: tuple[float, ...] = ()  # durations in seconds, one run each

    def check(self) -> None:
        """Raise InputError for settings of no use."""
        if self.rounds < 1 or not self.seconds > 0 or self.channels < 1:
            raise InputError("Give at least one round, one channel and a duration above 0 seconds.")
        if len(self.growth) == 1:
            raise InputError("A growth exponent needs at least two durations.")
        if not all(seconds > 0 for seconds in self.growth):
            raise InputError("Durations for the growth must be above 0 seconds.")


def installed_judges() -> tuple[str, ...]:
    """The judges whose packages are installed."""
    return tuple(name for name, package in JUDGES.items() if find_spec(package))


def check_judges(names: tuple[str, ...]) -> None:
    """Raise InputError for a judge that is unknown or whose package is missing."""
    for name in names:
        if name not in JUDGES:
            raise InputError(f"No judge is called {name!r}; give {' or '.join(JUDGES)}.")
        if name not in installed_judges():
            raise InputError(
                f"Judge {name} is not installed; run pip install 'lily-audio[evaluation]'."
            )
