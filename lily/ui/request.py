"""Decide what a visitor asked for: the widgets' values, typed and checked, become one request."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lily.errors import InputError
from lily.inference.options import Segments, Takes, UpsampleOptions, parse_cutoff

ENCODERS = ("on", "off", "both")  # both: a comparison
NO_RECORDING = "There is no recording yet; upload one or record one, then press Run."


@dataclass(frozen=True)
class Request:
    """One recording and how to fill it in; ``None`` leaves a choice to the preset or to chance."""

    recording: Path
    preset: str
    encoder: str = "on"  # "on", "off" or "both"
    steps: int | None = None
    seed: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    cutoff_hz: float | Segments | None = None
    reference: Path | None = None  # of a comparison: the full-band original
    context_files: tuple[Path, ...] = ()  # recordings of the same source that have their highs
    wall_hz: float | None = None  # where the original's band ended
    brightness_db: float | None = None  # added to the generated highs
    takes: Takes = ()  # chunks with a seed of their own
    chunks: str = ""  # the finished run whose other chunks they join

    @property
    def compares(self) -> bool:
        """Whether encoder off and on are asked for."""
        return self.encoder == "both"

    def key(self) -> str:
        """A hash of the recording and the choices: equal requests continue each other's runs."""
        choices = replace(self, recording=Path(), reference=None, takes=(), chunks="")
        digest = hashlib.blake2b(repr(choices).encode(), digest_size=16)
        with self.recording.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
        return digest.hexdigest()

    def options(self) -> UpsampleOptions:
        """The engine's options; raises InputError for an unknown encoder choice."""
        if self.encoder not in ENCODERS:
            raise InputError(f"Encoder is {self.encoder!r}; choose one of {', '.join(ENCODERS)}.")
        return UpsampleOptions(
            encoder=self.encoder != "off",
            steps=self.steps,
            sampler=self.sampler,
            guidance=self.guidance,
            seed=self.seed,
            cutoff_hz=self.cutoff_hz,
            context_files=self.context_files,
            wall_hz=self.wall_hz,
            brightness_db=self.brightness_db,
            takes=self.takes,
            resume=True,  # a stopped or lost run continues when it is requested again
        )


def request_of(
    recording: str | None,
    preset: str,
    encoder: str,
    steps: float | None,
    seed: str | float | None,
    sampler: str | None,
    guidance: float | None,
    cutoff: str | None,
    reference: str | None = None,
    context: Sequence[str] | None = None,
    wall: str | float | None = None,
    brightness: float | None = None,
    takes: Sequence[Sequence[float]] = (),
    chunks: str = "",
) -> Request:
    """Give values from a page or a program their types; raises InputError.

    Bounds are the engine's business: it knows the preset, and the recording's sample rate.
    """
    if not recording:
        raise InputError(NO_RECORDING)
    return Request(
        recording=Path(recording),
        preset=preset,
        encoder=encoder,
        steps=_whole("Steps", steps),
        seed=_whole("Seed", seed),
        sampler=sampler or None,
        guidance=_number("Guidance", guidance),
        cutoff_hz=parse_cutoff(cutoff.strip()) if cutoff and cutoff.strip() else None,
        reference=Path(reference) if reference else None,
        context_files=tuple(map(Path, context or ())),
        wall_hz=_number("Wall", wall),
        brightness_db=_number("Brightness", brightness) or None,
        takes=tuple((float(second), int(seed)) for second, seed in takes),
        chunks=chunks,
    )


def _whole(name: str, value: str | float | None) -> int | None:
    number = _number(name, value)
    if number is not None and number != int(number):
        raise InputError(f"{name} is {value}; give a whole number, or leave it empty.")
    return None if number is None else int(number)


def _number(name: str, value: str | float | None) -> float | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} is {text!r}; give a number, or leave it empty.")
    return number
