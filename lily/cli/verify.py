"""``lily verify``: test an output against its recording, or against its metadata.

Exit code 0 if every check passed, 1 if one failed, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from lily.certify.check import Check
from lily.certify.inputs import verify_inputs
from lily.errors import InputError
from lily.inference.options import cutoff_segments, parse_cutoff

RESULTS = {True: "passed", False: "FAILED", None: ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an output of Lily")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="INPUT",
        help="the recording it was made of: null test below the cutoff that is detected there",
    )
    parser.add_argument(
        "--cutoff",
        metavar="HZ",
        help="with --against: the cutoff to test below, if you chose it yourself in the run",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    """Print a row per check."""
    if options.cutoff is not None and options.against is None:
        raise InputError("--cutoff belongs to --against; give the recording as well.")
    given = cutoff_segments(options.cutoff and parse_cutoff(options.cutoff))
    verify_inputs(options.file, options.against)
    from lily.certify.verify import verify

    verdict = verify(options.file, options.against, given)
    if options.json:
        facts = {
            "file": str(verdict.file),
            "metadata": None if verdict.metadata is None else str(verdict.metadata),
            "against": None if verdict.against is None else str(verdict.against),
            "passed": verdict.passed,
            "checks": [asdict(check) for check in verdict.checks],
        }
        print(json.dumps(facts))
    else:
        print("\n".join(_rows(verdict.checks)))
        failed = sum(check.passed is False for check in verdict.checks)
        print(f"{failed} of the checks failed." if failed else "All checks passed.")
        if verdict.against is None:
            print(
                "Only compared with its own metadata; --against INPUT tests it against the input."
            )
    return 0 if verdict.passed else 1


def _rows(checks: tuple[Check, ...]) -> list[str]:
    width = max(len(check.label) for check in checks)
    rows = []
    for check in checks:
        value = f"{check.value:.8g}" if isinstance(check.value, float) else str(check.value)
        result = RESULTS[check.passed]
        rows.append(f"{check.label:<{width}}  {result:<6}  {value} {check.unit}".rstrip())
    return rows
