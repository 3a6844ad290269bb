"""``lily average``: the mean of several models' weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from lily.audio.temp_files import require_new


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "first", metavar="MODEL", help="preset, model folder or owner/name on the Hub"
    )
    parser.add_argument("others", nargs="+", metavar="MODEL", help="as many more as there are")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="model folder to write"
    )
    parser.add_argument(
        "--keep-encoder",
        action="store_true",
        help="take the encoder and its conditioning from the first model",
    )
    parser.set_defaults(run=run_average)


def run_average(options: argparse.Namespace) -> int:
    """Write the folder, or say why the models have no mean."""
    require_new(options.output)
    from lily.checkpoints.average import average_models
    from lily.checkpoints.resolve import resolve_config, with_weights

    configs = [
        with_weights(resolve_config(weights=name)) for name in (options.first, *options.others)
    ]
    average_models(configs, options.output, options.keep_encoder)
    print(f"The model folder is {options.output}.")
    return 0
