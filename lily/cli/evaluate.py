"""``lily evaluate``: measure a model against baselines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lily.cli.model import add_model
from lily.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="full-band recordings")
    add_model(parser)
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4000, 8000, 12000])
    parser.add_argument("--limit", type=int, metavar="N", help="only N files, evenly spread")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each file, from its start")
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    """Print LSD-HF by cutoff: the degraded input, shaped noise, encoder off, encoder on."""
    from dataclasses import asdict

    from tqdm import tqdm

    from lily.engine import InferenceEngine
    from lily.evaluation.run import evaluate, means
    from lily.resolve import resolve_config
    from lily.training.dataset import find_recordings

    files = [recording.path for recording in find_recordings(options.folder)]
    if options.limit is not None:
        files = files[:: max(1, len(files) // max(1, options.limit))][: options.limit]
    if len(files) < 2:
        raise InputError(f"{options.folder} gives {len(files)} recording; give at least two.")
    config = resolve_config(options.preset, options.weights)
    engine = InferenceEngine(config, options.device, options.precision)
    rows = []
    settings = {"seconds": options.seconds, "seed": options.seed, "steps": options.steps}
    total = len(files) * len(options.cutoffs)
    for row in tqdm(evaluate(engine, files, options.cutoffs, **settings), total=total):
        rows.append(row)
    table = means(rows)
    if options.json:
        print(json.dumps({"lsd_hf": table, "recordings": [asdict(row) for row in rows]}))
        return 0
    print("cutoff_hz  recordings  input  noise    off     on  on-off dB")
    for mean in table:
        print(
            f"{mean['cutoff_hz']:9.0f}  {mean['recordings']:10d}  {mean['input']:5.2f}  "
            f"{mean['noise']:5.2f}  {mean['off']:5.2f}  {mean['on']:5.2f}  "
            f"{mean['difference_db']:9.1f}"
        )
    return 0
