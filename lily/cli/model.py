"""The options every command that runs a model shares."""

from __future__ import annotations

import argparse

from lily.config import preset_names


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and where."""
    parser.add_argument(
        "--preset",
        default="lily-mini",
        help=f"{', '.join(preset_names())} (default: lily-mini) or a YAML file",
    )
    parser.add_argument("--weights", metavar="FOLDER", help="a model folder instead of a preset")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
