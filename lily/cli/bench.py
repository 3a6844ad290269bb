"""``lily bench``: how fast a model is on this machine, and where the time goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from lily.checkpoints.resolve import resolve_config
from lily.cli.model import add_model, load_engine
from lily.cli.run_options import add_sampler
from lily.evaluation.settings import BenchSettings
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import completed


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
    """Print rows as they are measured; with ``--json`` to standard error, then one object."""
    settings = BenchSettings(
        options.seconds, options.channels, options.rounds, tuple(options.growth)
    )
    settings.check()
    chosen = UpsampleOptions(
        encoder=False, steps=options.steps, sampler=options.sampler, guidance=options.guidance
    )
    completed(chosen, resolve_config(options.preset, options.weights))
    rows: list[tuple[str, dict[str, Any]]] = []
    for name, values in _measured(options, chosen, settings):
        rows.append((name, values))
        for line in LINES[name](values):
            print(line, file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        from lily.evaluation.benchmark import report

        print(json.dumps(report(rows)))
    return 0


def _measured(
    options: argparse.Namespace, chosen: UpsampleOptions, settings: BenchSettings
) -> Iterator[tuple[str, dict[str, Any]]]:
    from lily.evaluation.benchmark import bench, start_to_finish

    if not options.no_start:  # first, while this process has no model and no waiting threads
        yield "start", start_to_finish(_model_arguments(options))
    yield from bench(load_engine(options, chosen), chosen, settings)


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


def _setup(facts: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{facts['model']} on {facts['device']}, {facts['precision']}, {facts['threads']} threads; "
        f"{facts['steps']} steps of {facts['sampler']}, guidance {facts['guidance']:g}; "
        f"{facts['audio']['seconds']:g} s of audio"
    )
    yield "machine: " + ", ".join(str(value) for value in facts["machine"].values())
    yield "versions: " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items())


def _start(facts: dict[str, Any]) -> Iterator[str]:
    yield (
        f"process start to finished file: {facts['seconds']} s for "
        f"{facts['audio_seconds']:g} s of audio"
    )


def _round(facts: dict[str, Any]) -> Iterator[str]:
    yield f"round {facts['round']}, encoder {facts['encoder']}: {facts['seconds']} s"


def _rounds(facts: dict[str, Any]) -> Iterator[str]:
    for name, row in facts.items():
        yield (
            f"encoder {name}: {row['seconds']} s, real-time factor {row['real_time_factor']}, "
            f"{row['evaluations']} evaluations of {row['evaluated_rows']} rows"
        )
        for stage, seconds in row["stages"].items():
            yield f"  {stage:12} {seconds:9.3f} s {row['shares'][stage]:7.1%}"
        yield f"  outside the networks (measure, read, rest): {row['outside_networks']:.1%}"


def _encoder(facts: dict[str, Any]) -> Iterator[str]:
    few = ", of one pair: give more --rounds" * (len(facts["rounds"]) < 2)
    yield (
        f"encoder's share: {facts['time_overhead']:+.1%} of a whole run, "
        f"{facts['cpu_overhead']:+.1%} of its CPU time{few}"
    )


def _growth_run(facts: dict[str, Any]) -> Iterator[str]:
    memory = f", peak memory so far {facts['peak_memory_mib']} MiB" * bool(facts["peak_memory_mib"])
    yield (
        f"{facts['seconds']:g} s of audio in {facts['compute_seconds']} s, "
        f"{facts['cpu_seconds']} s of CPU time{memory}"
    )


def _growth(facts: dict[str, Any]) -> Iterator[str]:
    yield (
        f"time grows with duration to the power {facts['exponent']}, "
        f"CPU time to the power {facts['cpu_exponent']}"
    )


def _memory(facts: dict[str, Any]) -> Iterator[str]:
    if facts["predicted_mib"] is not None:
        yield f"predicted for tensors {facts['predicted_mib']} MiB"
    if facts["peak_memory_mib"] is not None:
        yield f"peak memory {facts['peak_memory_mib']} MiB"


LINES = {  # how each row of the benchmark is printed
    "setup": _setup,
    "start": _start,
    "round": _round,
    "rounds": _rounds,
    "encoder": _encoder,
    "growth_run": _growth_run,
    "growth": _growth,
    "memory": _memory,
}
