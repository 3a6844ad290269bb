"""``lily convert``: an AudioSR checkpoint becomes a model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lily.checkpoints.files import require_checkpoint, require_empty
from lily.config.presets import load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="AudioSR's .bin, .ckpt or .safetensors"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="model folder to write"
    )
    parser.add_argument(
        "--dtype", choices=("fp32", "fp16", "bf16"), default="fp32", help="default: fp32, exact"
    )
    parser.add_argument(
        "--ema", action="store_true", help="take the averaged U-Net, which AudioSR never uses"
    )
    parser.add_argument(
        "--preset",
        default="audiosr-basic",
        metavar="NAME_OR_YAML",
        help="what the checkpoint's networks are; default: audiosr-basic, the speech model's too",
    )
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    """Print where every tensor goes, then write the folder, or say what is wrong."""
    config = load_config(options.preset)
    require_checkpoint(options.checkpoint)
    require_empty(options.output)
    from lily.checkpoints.convert_audiosr import DTYPES, examine, write_folder

    checkpoint, account = examine(options.checkpoint, config, options.ema)
    print(f"{'':40}{'tensors':>10}{'parameters':>16}", file=sys.stderr)
    for kind, tensors, parameters in account.rows(checkpoint.shapes):
        print(f"{kind:40}{tensors:10,}{parameters:16,}", file=sys.stderr)
    folder = write_folder(checkpoint, account, config, options.output, DTYPES[options.dtype])
    print(f"The model folder is {folder}.")
    return 0
