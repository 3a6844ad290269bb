"""One measured figure and whether it is within its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LENGTH, NULL = "Length", "Null depth below the crossover"
TRUE_PEAK = "True peak of the output"


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


def summary(checks: Sequence[Check]) -> str:
    """One line: the checks that failed, or the null depth and the true peak."""
    limited = [check for check in checks if check.passed is not None]
    if failed(checks):
        return f"failed: {', '.join(failed(checks))}"
    shown = [c for label in (NULL, TRUE_PEAK) for c in checks if c.label == label]
    figures = [f"{c.label.lower()} {c.value} {c.unit}".rstrip() for c in shown]
    return ", ".join([f"{len(limited)} checks passed", *figures])
