"""``lily info``: describe a preset."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--preset", default="lily-mini", metavar="NAME_OR_YAML")
    parser.add_argument(
        "--profile", action="store_true", help="time and memory of the encoder, 10 s to 1 h"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_info)


def run_info(options: argparse.Namespace) -> int:
    """Describe a preset: parameter counts and, on request, what the encoder costs."""
    from lily.config.presets import load_config
    from lily.evaluation.describe import describe, profile_encoder

    config = load_config(options.preset)
    facts = describe(config)
    if options.profile:
        facts["profile"] = profile_encoder(config)
    if options.json:
        print(json.dumps(facts))
        return 0
    for section, values in facts.items():
        rows = values if isinstance(values, list) else [values]
        print(f"{section}:")
        for row in rows:
            items = row.items() if isinstance(row, dict) else [("", row)]
            print("  " + "  ".join(f"{k} {_number(v)}".strip() for k, v in items))
    return 0


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
