"""``lily compare``: restore a recording with the encoder off and on, and measure the difference."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lily.audio.probe import probe
from lily.certify.check import failed
from lily.cli.checks import comparison_files, require_free
from lily.cli.model import add_model, load_engine
from lily.cli.progress import follow
from lily.cli.run_options import add_run, upsample_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("input", type=Path, metavar="IN", help="an audio file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="results")
    add_model(parser)
    add_run(parser)
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="the full-band original, to measure against"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """Write both variants, their difference, spectrograms and figures.

    Exit code 1 if a variant failed a check.
    """
    referenced = options.reference is not None
    require_free(*comparison_files(options.output, options.input.stem, referenced))
    for path in (options.input, options.reference) if referenced else (options.input,):
        probe(path)
    chosen = upsample_options(options, encoder=True)
    engine = load_engine(options, chosen)
    from lily.evaluation.comparison import examine, figures
    from lily.evaluation.reference import align

    reference = align(options.reference, options.input) if options.reference else None
    events = engine.compare(options.input, options.output, chosen)
    result = follow(events, options.input, takes=2)
    comparison = examine(result, reference)
    broken = {str(one.output): failed(one.checks) for one in (result.off, result.on)}
    for output, names in broken.items():
        if names:
            print(f"lily: {output}: failed: {', '.join(names)}.", file=sys.stderr)
    code = 1 if any(broken.values()) else 0
    if options.json:
        row = figures(comparison)
        row["files"] = {name: str(path) for name, path in comparison.files.items()}
        row["real_time_factor"] = round(result.on.real_time_factor, 4)
        print(json.dumps(row))
        return code
    print(
        f"{result.off.output} and {result.on.output.name}: {result.on.seconds:.2f} s, cutoff "
        f"{result.on.cutoff_hz:.0f} Hz, seed {result.on.seed}, real-time factor "
        f"{result.on.real_time_factor:.2f}. On differs from off by "
        f"{comparison.difference_db:.1f} dB of the generated band."
    )
    if result.on.context:
        print(result.on.context.sentence)
    for one in (result.off, result.on):
        if notes := " ".join(filter(None, (one.format_note, one.peak_note))):
            print(f"{one.output.name}: {notes}")
    for name, of in comparison.distances.items():
        print(f"{name:>5}: LSD {of.lsd:.3f}, LSD-HF {of.lsd_hf:.3f}, LSD-LF {of.lsd_lf:.3f}")
    return code
