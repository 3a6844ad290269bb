"""The options of a run, shared by the commands that restore recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from lily.errors import InputError
from lily.inference.options import Takes, UpsampleOptions, parse_cutoff, parse_takes


def add_sampler(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sampler; the preset has the defaults."""
    parser.add_argument("--steps", type=int, help="sampler steps (default: the preset's)")
    parser.add_argument("--sampler", help="dpmpp2m or ddim (default: the preset's)")
    parser.add_argument(
        "--guidance", type=float, help="guidance scale, 1 turns it off (default: the preset's)"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run: those of the sampler, seed, cutoff and resume."""
    add_sampler(parser)
    parser.add_argument("--seed", type=int, help="same seed, same samples (default: drawn)")
    parser.add_argument(
        "--takes",
        type=_takes,
        default=(),
        metavar="S:SEED,...",
        help="other seeds for single chunks: 12.5:9 is seed 9 for the chunk at 12.5 s",
    )
    parser.add_argument(
        "--cutoff",
        type=_cutoff,
        metavar="HZ",
        help="default: detected; where it changes, as SECOND:HZ,SECOND:HZ from 0 on",
    )
    parser.add_argument(
        "--context",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="recordings of the same voice, band or album that still have their highs",
    )
    parser.add_argument(
        "--wall",
        type=float,
        metavar="HZ",
        help="where the original's band ended (default: as generated)",
    )
    parser.add_argument(
        "--brightness",
        type=float,
        metavar="DB",
        help="make the generated highs louder by so much; negative: quieter",
    )
    parser.add_argument(
        "--temporal-shape",
        choices=("on", "off"),
        help="let generated attacks follow the recording's (default: on, off in profile audiosr)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run of the same command; files that it finished are kept",
    )


def upsample_options(
    options: argparse.Namespace, encoder: bool, profile: str = "lily", format: str = "wav"
) -> UpsampleOptions:
    """The options of ``add_run`` as the engine takes them."""
    return UpsampleOptions(
        encoder=encoder,
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        seed=options.seed,
        takes=options.takes,
        cutoff_hz=options.cutoff,
        profile=profile,
        context_files=tuple(options.context),
        wall_hz=options.wall,
        brightness_db=options.brightness,
        format=format,
        resume=options.resume,
        temporal_shape=None if options.temporal_shape is None else options.temporal_shape == "on",
    )


def _cutoff(text: str) -> float | tuple[tuple[float, float], ...]:
    """``8000``, or segments such as ``0:4000,62.5:20000``."""
    try:
        return parse_cutoff(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _takes(text: str) -> Takes:
    """Such as ``12.5:9,40:3``."""
    try:
        return parse_takes(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
