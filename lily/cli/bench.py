"""``lily bench``: how fast a model is on this machine, and where the time goes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lily.checkpoints.resolve import resolve_config
from lily.cli.model import add_model, load_engine
from lily.cli.run_options import add_sampler
from lily.inference.options import UpsampleOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model(parser)
    add_sampler(parser)
    parser.add_argument(
        "--seconds", type=float, default=20.48, help="of audio per round (default: 20.48)"
    )
    parser.add_argument("--channels", type=int, default=1, help="of that audio (default: 1)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of encoder off and on each (default: 3)"
    )
    parser.add_argument(
        "--growth",
        type=float,
        nargs="*",
        default=[],
        metavar="SECONDS",
        help="durations to run once each, such as 60 240 900 3600, to see how time grows",
    )
    parser.add_argument(
        "--no-start",
        action="store_true",
        help="skip timing a separate process from its start to the finished file",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    """Measure, and print a table or one JSON object."""
    resolve_config(options.preset, options.weights)  # refuses an unknown model before torch loads
    from lily import __version__
    from lily.evaluation.benchmark import BenchSettings, bench, start_to_finish

    settings = BenchSettings(
        options.seconds, options.channels, options.rounds, tuple(options.growth)
    )
    # First, while this process has no model and no waiting threads.
    start = None if options.no_start else start_to_finish(_model_arguments(options))
    chosen = UpsampleOptions(
        steps=options.steps, sampler=options.sampler, guidance=options.guidance
    )
    facts = bench(load_engine(options), chosen, settings)
    facts["versions"] = {"lily": __version__, **facts["versions"]}
    if start:
        facts["start"] = start
    if options.json:
        print(json.dumps(facts))
        return 0
    for line in _lines(facts):
        print(line)
    return 0


def _model_arguments(options: argparse.Namespace) -> list[str]:
    """The same options as arguments of another process."""
    given = {
        "--preset": options.preset,
        "--weights": options.weights,
        "--device": options.device,
        "--precision": options.precision,
        "--steps": options.steps,
        "--sampler": options.sampler,
        "--guidance": options.guidance,
    }
    return [text for key, value in given.items() if value is not None for text in (key, str(value))]


def _lines(facts: dict[str, Any]) -> list[str]:
    machine = ", ".join(str(value) for value in facts["machine"].values())
    lines = [
        f"{facts['model']} on {facts['device']}, {facts['precision']}, {facts['threads']} threads; "
        f"{facts['steps']} steps of {facts['sampler']}, guidance {facts['guidance']:g}",
        f"machine: {machine}",
        "versions: " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
    ]
    for name, row in facts["rounds"].items():
        lines.append(
            f"encoder {name}: {facts['audio']['seconds']:g} s of audio in {row['seconds']} s, "
            f"real-time factor {row['real_time_factor']}, {row['evaluations']} evaluations of "
            f"{row['evaluated_rows']} rows"
        )
        for stage, seconds in row["stages"].items():
            lines.append(f"  {stage:12} {seconds:9.3f} s {row['shares'][stage]:7.1%}")
    if "encoder" in facts:
        few = ", of one pair: give more --rounds" * (len(facts["encoder"]["rounds"]) < 2)
        share = facts["encoder"]["time_overhead"]
        lines.append(f"encoder's share: {share:+.1%} of a whole run{few}")
    for row in facts["growth"].get("runs", ()):
        lines.append(f"{row['seconds']:g} s of audio in {row['compute_seconds']} s")
    if facts["growth"]:
        lines.append(f"time grows with duration to the power {facts['growth']['exponent']}")
    if facts["predicted_mib"] is not None:
        lines.append(f"predicted for tensors {facts['predicted_mib']} MiB")
    lines.append(f"peak memory {facts['peak_memory_mib']} MiB")
    if "start" in facts:
        start = facts["start"]
        lines.append(
            f"process start to finished file: {start['seconds']} s for "
            f"{start['audio_seconds']:g} s of audio"
        )
    return lines
