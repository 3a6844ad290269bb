"""The options that commands which run a model share."""

from __future__ import annotations

import argparse

from lily.config import preset_names
from lily.events import UpsampleOptions


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


def add_filling(parser: argparse.ArgumentParser) -> None:
    """How recordings are filled in; whatever is left out is the preset's."""
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--sampler", help="dpmpp2m or ddim; default: the preset's")
    parser.add_argument(
        "--guidance", type=float, help="1 turns guidance off; default: the preset's"
    )
    parser.add_argument("--seed", type=int, help="same seed, same samples; default: drawn")
    parser.add_argument("--cutoff", type=float, metavar="HZ", help="default: detected")


def filling(options: argparse.Namespace, encoder: bool) -> UpsampleOptions:
    """What ``add_filling`` asked for."""
    return UpsampleOptions(
        encoder=encoder,
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        seed=options.seed,
        cutoff_hz=options.cutoff,
    )
