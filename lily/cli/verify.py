"""``lily verify``: check a file against its certificate, and against the recording it was made of.

Exit code 0 if everything holds, 1 if something does not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from lily.certify.check import Law

MARKS = {True: "holds", False: "DOES NOT HOLD", None: ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what Lily wrote")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="INPUT",
        help="the recording it was made of: then every figure is measured again",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    """Print a row per law."""
    from lily.certify.verify import verify

    verdict = verify(options.file, options.against)
    if options.json:
        told = {
            "file": str(verdict.file),
            "certificate": str(verdict.certificate),
            "against": None if verdict.against is None else str(verdict.against),
            "holds": verdict.holds,
            "laws": [asdict(law) for law in verdict.laws],
        }
        print(json.dumps(told))
    else:
        print("\n".join(_rows(verdict.laws)))
        broken = sum(law.holds is False for law in verdict.laws)
        print("Everything holds." if verdict.holds else f"{broken} of the laws do not hold.")
    return 0 if verdict.holds else 1


def _rows(laws: tuple[Law, ...]) -> list[str]:
    width = max(len(law.label) for law in laws)
    rows = []
    for law in laws:
        value = f"{law.value:.8g}" if isinstance(law.value, float) else str(law.value)
        rows.append(f"{law.label:<{width}}  {MARKS[law.holds]:<13}  {value} {law.unit}".rstrip())
    return rows
