"""The options that choose a model and a device, and loading it with progress."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lily.checkpoints.events import Downloading, LoadEvent, Notice
from lily.checkpoints.files import require_weights
from lily.checkpoints.resolve import resolve_config, with_weights
from lily.cli.collector import uncollected
from lily.cli.malloc import keep_freed_memory
from lily.config.presets import preset_names
from lily.inference.options import DEVICES, PRECISIONS, UpsampleOptions
from lily.inference.profiles import completed

if TYPE_CHECKING:
    from lily.inference.engine import InferenceEngine

DEFAULT_PRESET = "lily-mini"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the model, and where and how it runs."""
    parser.add_argument(
        "--preset",
        default=DEFAULT_PRESET,
        metavar="NAME_OR_YAML",
        help=f"{', '.join(preset_names())} (default: {DEFAULT_PRESET}) or a YAML file",
    )
    parser.add_argument(
        "--weights",
        metavar="FOLDER_OR_HUB_ID",
        help="a model folder, or owner/name[@revision] on the Hub, instead of a preset",
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="cuda: NVIDIA or AMD, mps: Apple (default: a GPU if there is one)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the networks (default: bf16 where it pays, else fp32)",
    )


def load_engine(options: argparse.Namespace, run: UpsampleOptions) -> InferenceEngine:
    """Load the model that the options of ``add_model`` choose, with progress on standard error.

    Raises InputError before that if the model cannot follow the options of the ``run``.
    """
    with LoadBar(options.weights or options.preset) as notify:
        config = resolve_config(options.preset, options.weights, notify)
        completed(run, config)
        config = with_weights(config, notify)
        require_weights(config)
        large = config["inference"].get("large", False)
        if not large:
            keep_freed_memory()
        # torch takes seconds to import, so the progress line and refusals come first.
        with uncollected():
            from lily.inference.engine import InferenceEngine

            engine = InferenceEngine(config, options.device, options.precision)
        if large:  # not before: float32 weights are freed once they are rounded
            keep_freed_memory()
        return engine


class LoadBar:
    """Progress of loading a model, on standard error: a bar per download, a line per notice.

    On a terminal a line says what is being loaded; it disappears when the block ends.
    """

    def __init__(self, model: str = "") -> None:
        self._bar: tqdm | None = None
        self._file, self._model = "", model

    def __enter__(self) -> LoadBar:
        if self._model:
            self._show(desc=f"loading {self._model}", bar_format="{desc}", leave=False)
        return self

    def __exit__(self, *error: Any) -> None:
        self._close()

    def __call__(self, event: LoadEvent) -> None:
        """Show one event."""
        if isinstance(event, Downloading):
            if event.file != self._file:
                self._show(desc=event.file, total=event.total, unit="B", unit_scale=True)
                self._file = event.file
            if self._bar is not None:
                self._bar.update(event.done - self._bar.n)
            return
        self._close()
        if (
            isinstance(event, Notice) or sys.stderr.isatty()
        ):  # progress is for terminals, as bars are
            print(f"lily: {event.text}", file=sys.stderr)

    def _show(self, **options: Any) -> None:
        self._close()
        self._bar = tqdm(file=sys.stderr, disable=None, **options)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._file = None, ""
