"""``lily info``: describe a preset."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lily.config.presets import load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--preset", default="lily-mini", metavar="NAME_OR_YAML")
    parser.add_argument(
        "--profile", action="store_true", help="measure time and memory of the encoder, 10 s to 1 h"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_info)


def run_info(options: argparse.Namespace) -> int:
    """Print parameter counts and, on request, the cost of the encoder, row by row."""
    config = load_config(options.preset)
    from lily.evaluation.describe import describe, profile_encoder

    facts: dict[str, Any] = describe(config)
    if options.json:
        if options.profile:
            facts["profile"] = list(profile_encoder(config))
        print(json.dumps(facts))
        return 0
    for section, values in facts.items():
        print(f"{section}:")
        _print_row(values)
    if options.profile:
        print("profile:", flush=True)
        for row in profile_encoder(config):
            _print_row(row)
    return 0


def _print_row(values: object) -> None:
    items = values.items() if isinstance(values, dict) else [("", values)]
    print("  " + "  ".join(f"{key} {_number(value)}".strip() for key, value in items), flush=True)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
