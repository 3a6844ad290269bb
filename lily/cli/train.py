"""``lily train``: the recipe, with a progress bar a stage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lily.checkpoints.resolve import resolve_config, with_weights
from lily.cli.checks import count
from lily.cli.model import LoadBar
from lily.config.presets import load_config
from lily.training.request import check_run, chosen_stages, shortened

DEVICES = ("auto", "cpu", "cuda")  # the losses need float64, which Apple's GPUs lack

if TYPE_CHECKING:
    from lily.training.loop import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--preset", default="lily-mini", metavar="NAME_OR_YAML")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of audio")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder")
    parser.add_argument("--stage", default="all", help="one stage of the recipe; default: all")
    parser.add_argument(
        "--train",
        choices=("all", "encoder"),
        default="all",
        dest="part",
        help="encoder: on top of a model that stays as it is; writes an adapter",
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="begin from a preset's, model folder's or Hub model's weights (--train encoder: "
        "default the preset's)",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        metavar="X",
        help="of every stage's steps and of the corpus' variants; 0.01 rehearses a recipe",
    )
    parser.add_argument("--resume", action="store_true", help="continue where a run stopped")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of the networks' products; default fp32, or accelerate's --mixed_precision",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: --resume gives the same bits, as it does on a CPU anyway; slower",
    )
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes that prepare; default: one a core"
    )
    parser.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> int:
    """Train the stages asked for, with a progress bar a stage."""
    adapter = options.part == "encoder"
    stages = chosen_stages(options.stage, adapter)
    config, base = shortened(load_config(options.preset), options.share), options.base
    if adapter:
        base = base or options.preset
    check_run(config, options.data, options.out, stages, resume=options.resume, base=base)
    if base:
        with LoadBar() as notify:
            below = with_weights(resolve_config(base, options.base, notify), notify)
        config = {**below, **{key: config[key] for key in ("training",) if key in config}}
    from lily.inference.device import choose_device, choose_precision, repeatable
    from lily.training.parallel import launched_precision
    from lily.training.train import train

    device = choose_device(options.device, DEVICES)
    progress = train(
        config,
        options.data,
        options.out,
        stages=stages,
        resume=options.resume,
        device=device,
        workers=options.workers,
        base=base,
        adapter=adapter,
        precision=choose_precision(options.precision or launched_precision(), device),
    )
    with repeatable(options.deterministic):
        _show(progress)
    print(f"The model folder is {options.out / 'model'}.")
    return 0


def _show(progress: Iterator[Progress]) -> None:
    """Run to the end, with a bar a stage."""
    from tqdm import tqdm

    bar, stage = None, ""
    for event in progress:
        if event.stage != stage:
            if bar is not None:
                bar.close()
            stage = event.stage
            bar = tqdm(total=event.total, desc=stage, file=sys.stderr)
        assert bar is not None
        bar.update(event.done - bar.n)
        bar.set_postfix({key: f"{value:.4g}" for key, value in event.figures.items()})
    if bar is not None:
        bar.close()
