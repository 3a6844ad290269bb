"""``lily evaluate``: measure a model against baselines, and its encoder against itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lily.cli.checks import count, require_folder
from lily.cli.model import add_model, load_engine
from lily.errors import InputError
from lily.evaluation.settings import Case, Settings, installed_judges
from lily.inference.options import UpsampleOptions
from lily.training.recordings import find_recordings

FEW = 5  # recordings: of fewer, resampling them says nothing of others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="full-band recordings")
    add_model(parser)
    parser.add_argument("--cutoffs", type=float, nargs="*", default=[4000, 8000, 12000])
    parser.add_argument(
        "--changing", type=float, nargs="*", default=[], help="cutoffs of a part of each recording"
    )
    parser.add_argument(
        "--mp3", type=float, nargs="*", default=[], metavar="KBPS", help="MP3 round trips"
    )
    parser.add_argument(
        "--tones", action="store_true", help="also 20 synthetic harmonic tones, at each cutoff"
    )
    parser.add_argument(
        "--judges",
        nargs="*",
        metavar="NAME",
        help="perceptual metrics: zimtohrli, visqol; default: zimtohrli where it is installed",
    )
    parser.add_argument("--encoder", choices=("on", "off", "both"), default="both")
    parser.add_argument(
        "--controls",
        nargs="*",
        metavar="CASE",
        help="also give wrong, shuffled, no and mismatched contexts, in all cases or those named",
    )
    parser.add_argument(
        "--informed",
        nargs="*",
        metavar="CASE",
        help="also with a borrowed recording, a stranger's, and the true wall and brightness",
    )
    parser.add_argument("--split", type=Path, metavar="FILE", help="only what it holds out")
    parser.add_argument("--limit", type=count, metavar="N", help="only N files, evenly spread")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each file, from its start")
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="draws, averaged")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the table")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    """Print every measure by case and system, and the paired differences."""
    require_folder(options.folder)
    borrowable = _recordings(options)
    files = _chosen(borrowable, options)
    kinds = (("lowpass", options.cutoffs), ("mp3", options.mp3), ("changing", options.changing))
    cases = tuple(Case(kind, value) for kind, values in kinds for value in values)
    if options.tones:
        cases += tuple(Case("tones", value) for value in options.cutoffs)
    settings = Settings(
        cases=cases,
        seconds=options.seconds,
        seeds=options.seeds,
        first_seed=options.seed,
        steps=options.steps,
        encoder={"on": (True,), "off": (False,), "both": (False, True)}[options.encoder],
        controls=_controls(options.controls, [case.name for case in cases]),
        informed=_controls(options.informed, [case.name for case in cases]),
        judges=_judges(options.judges),
    )
    settings.check()
    asked = UpsampleOptions(encoder=options.encoder != "off", steps=options.steps)
    engine = load_engine(options, asked)
    from tqdm import tqdm

    from lily.evaluation.report import plot, summarise
    from lily.evaluation.run import evaluate

    measured = evaluate(engine, files, settings, borrowable)
    rows = list(tqdm(measured, unit="row", disable=None))
    summary = summarise(rows)
    if options.json:
        print(json.dumps(summary), flush=True)
    else:
        _print(summary)
    if options.plots:
        plot(rows, options.plots)
    return 0


def _controls(asked: list[str] | None, cases: list[str]) -> tuple[str, ...]:
    """The cases to run the controls in: none, those named, or, where none is named, all."""
    unknown = [name for name in asked or [] if name not in cases]
    if unknown:
        raise InputError(f"No case is called {unknown[0]!r} here; name {', '.join(cases)}.")
    return () if asked is None else tuple(asked or cases)


def _recordings(options: argparse.Namespace) -> list[tuple[Path, str, str]]:
    """The recordings there are as (path, kind, source); a kind is the folder a file lies in."""
    recordings = find_recordings(options.folder)
    if options.split:
        try:
            held_out = set(json.loads(options.split.read_text())["validation"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{options.split} is no split; give the split.json of a training run."
            ) from error
        recordings = [r for r in recordings if r.name in held_out]
    return [(r.path, r.path.parent.name, r.source) for r in recordings]


def _files(options: argparse.Namespace) -> list[tuple[Path, str, str]]:
    """The recordings to measure, of those there are."""
    return _chosen(_recordings(options), options)


def _chosen(
    files: list[tuple[Path, str, str]], options: argparse.Namespace
) -> list[tuple[Path, str, str]]:
    """All recordings, or as many as asked for, evenly over the folder."""
    if options.limit is not None:
        most, chosen = len(files), min(len(files), options.limit)
        files = [files[place * most // chosen] for place in range(chosen)]
    if len(files) < 2:
        raise InputError(
            f"{options.folder} gives {len(files)} recordings to measure; give at least two."
        )
    return files


def _judges(asked: list[str] | None) -> tuple[str, ...]:
    """The perceptual metrics asked for; by default Zimtohrli, where it is installed."""
    if asked is None:
        return tuple(name for name in installed_judges() if name == "zimtohrli")
    return tuple(asked)


def _print(summary: dict) -> None:
    """A block a case: a line a measure, a column a system; then the paired differences."""
    from lily.evaluation.measures import SHOWN

    for case in dict.fromkeys(row["case"] for row in summary["table"]):
        of_case = [row for row in summary["table"] if row["case"] == case]
        means = {r["system"]: r for r in summary["by_collection"] if r["case"] == case}
        auc = {r["system"]: r["auc"] for r in summary["realism"] if r["case"] == case}
        systems = [row["system"] for row in of_case]
        print(f"\n{case}, {of_case[0]['recordings']} recordings")
        print(f"{'':28}" + "".join(f"{system:>10}" for system in systems) + "   ideal")
        for name, ideal in SHOWN.items():
            _print_line(name, [row.get(name) for row in of_case], ideal)
        _print_line("lsd_hf, by collection", [means[s]["lsd_hf"] for s in systems], "0")
        _print_line("classifier auc", [auc.get(system) for system in systems], "0.5")
    for row in summary["differences"]:
        few = "  too few to tell" if row["recordings"] < FEW else ""
        print(
            f"{row['case']:18} {row['pair']:15} {row['of']:14} {row['measure']:17} "
            f"n {row['recordings']:3d}  {row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
            f"  by collection [{row['collection_low']:+.4f}, {row['collection_high']:+.4f}]"
            f"  {row['relative']:+.1%}{few}"
        )


def _print_line(name: str, values: list[float | None], ideal: str) -> None:
    if any(value is not None for value in values):
        cells = "".join(f"{'-' if v is None else format(v, '.3f'):>10}" for v in values)
        print(f"{name:28}{cells}   {ideal}")
