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


def summary(checks: Sequence[Check]) -> str:
    """One line: the checks that failed, or the null depth and the true peak."""
    limited = [check for check in checks if check.passed is not None]
    failed = [check.label.lower() for check in limited if not check.passed]
    if failed:
        return f"failed: {', '.join(failed)}"
    shown = [c for label in (NULL, TRUE_PEAK) for c in checks if c.label == label]
    figures = [f"{c.label.lower()} {c.value} {c.unit}".rstrip() for c in shown]
    return ", ".join([f"{len(limited)} checks passed", *figures])
