"""The options that commands which run a model share, and how its loading is shown."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tqdm import tqdm

from lily.checkpoints.events import Downloading, LoadEvent, Notice
from lily.config.presets import preset_names
from lily.errors import InputError
from lily.inference.events import UpsampleOptions


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and where."""
    parser.add_argument(
        "--preset",
        default="lily-mini",
        help=f"{', '.join(preset_names())} (default: lily-mini) or a YAML file",
    )
    parser.add_argument(
        "--weights",
        metavar="FOLDER_OR_HUB_ID",
        help="a model folder, or owner/name[@revision] on the Hub, instead of a preset",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")


class LoadBar:
    """Shows what loading a model tells, on standard error: a bar a file, a line a notice."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._file = ""

    def __enter__(self) -> LoadBar:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close()

    def __call__(self, event: LoadEvent) -> None:
        """Show one event."""
        if isinstance(event, Downloading):
            if event.file != self._file:
                self._close()
                self._file = event.file
                options = {"unit": "B", "unit_scale": True, "file": sys.stderr, "disable": None}
                self._bar = tqdm(desc=event.file, total=event.total, **options)
            if self._bar is not None:
                self._bar.update(event.done - self._bar.n)
            return
        self._close()
        if isinstance(event, Notice) or sys.stderr.isatty():  # what is only progress, as bars do
            print(f"lily: {event.text}", file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._file = None, ""


def add_filling(parser: argparse.ArgumentParser) -> None:
    """How recordings are filled in; whatever is left out is the preset's."""
    parser.add_argument(
        "--low-memory",
        action="store_true",
        help="one network at a time on the device, one chunk of one channel in it",
    )
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--sampler", help="dpmpp2m or ddim; default: the preset's")
    parser.add_argument(
        "--guidance", type=float, help="1 turns guidance off; default: the preset's"
    )
    parser.add_argument("--seed", type=int, help="same seed, same samples; default: drawn")
    parser.add_argument(
        "--cutoff",
        type=_cutoff,
        metavar="HZ",
        help="default: detected; where it changes, as SECOND:HZ,SECOND:HZ from 0 on",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where the same command was cut off; what it had finished is left as it is",
    )


def filling(options: argparse.Namespace, encoder: bool, profile: str = "lily") -> UpsampleOptions:
    """What ``add_filling`` asked for."""
    return UpsampleOptions(
        encoder=encoder,
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        seed=options.seed,
        cutoff_hz=options.cutoff,
        profile=profile,
        resume=options.resume,
    )


def _cutoff(text: str) -> float | tuple[tuple[float, float], ...]:
    """``8000``, or pieces such as ``0:4000,62.5:20000``."""
    from lily.inference.options import cutoffs_of  # torch: not needed to print the help

    try:
        return cutoffs_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
