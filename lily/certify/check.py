"""One measured figure and whether it is within its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LENGTH, NULL = "Length", "Null depth below the crossover"
WIDER = {"FLOAT": "32-bit float", "DOUBLE": "64-bit float", "PCM_32": "32-bit"}  # than 24 bits
RECORDED_PEAK, TRUE_PEAK = "True peak of the recording", "True peak of the output"


@dataclass(frozen=True)
class Check:
    """A figure with its unit, and whether it passed."""

    label: str
    value: float | int | str
    unit: str = ""
    passed: bool | None = None  # None: informational, has no limit


def failed(checks: Sequence[Check]) -> list[str]:
    """The names of the checks that failed."""
    return [check.label.lower() for check in checks if check.passed is False]


def peak_note(checks: Sequence[Check], subtype: str) -> str:
    """What to do where the output's true peak lies above full scale and the recording's; or empty.

    ``subtype`` is the output's: a float file clips only once it is played or converted.
    """
    peaks = {check.label: check.value for check in checks}
    made, recorded = peaks.get(TRUE_PEAK), peaks.get(RECORDED_PEAK)
    if not isinstance(made, float) or not isinstance(recorded, float):
        return ""
    if made <= max(0.0, recorded):
        return ""
    tenths = math.ceil(round(10 * made, 6))  # 10 * 1.1 is 11.000000000000002
    lower = f"lower it by {tenths / 10:g} dB"
    if subtype == "FLOAT":
        what = f"the file is not clipped; {lower} before it is played or converted"
    else:
        what = f"{lower} before it is encoded to a lossy format, which may clip it"
    return f"The generated highs raise its true peak from {recorded:g} to {made:g} dBTP: {what}."


def format_note(subtype: str, peak: float, recorded_subtype: str, asked: str) -> str:
    """Why the output's format is not the recording's or not the one asked for; or empty.

    Subtypes are libsndfile's, ``peak`` is the largest sample of the output, ``asked`` the container
    ("wav" or "flac").
    """
    if subtype == "FLOAT":
        instead = " instead of a FLAC" if asked == "flac" else ""
        level = round(20 * math.log10(peak), 2)
        held = f"its peak of {level:+.2f} dBFS" if level > 0 else "its peak at full scale"
        return f"The output is a 32-bit float WAV{instead}, as 24 bits cannot hold {held}."
    if recorded_subtype in WIDER:
        return (
            f"The output is 24-bit and the recording {WIDER[recorded_subtype]}: its samples are "
            "rounded to 24 bits, as none exceeds full scale."
        )
    return ""


def summary(checks: Sequence[Check]) -> str:
    """One line: the checks that failed, or the null depth and the true peak."""
    limited = [check for check in checks if check.passed is not None]
    if failed(checks):
        return f"failed: {', '.join(failed(checks))}"
    shown = [c for label in (NULL, TRUE_PEAK) for c in checks if c.label == label]
    figures = [f"{c.label.lower()} {c.value} {c.unit}".rstrip() for c in shown]
    return ", ".join([f"{len(limited)} checks passed", *figures])
