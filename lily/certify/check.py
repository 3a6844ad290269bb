"""One figure of a certificate and whether it is within its limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """A row of a certificate: a figure, its unit, and whether it is as it must be."""

    label: str
    value: float | int | str
    unit: str
    holds: bool | None = None  # None: told, nothing must be
