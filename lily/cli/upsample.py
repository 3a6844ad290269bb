"""``lily upsample``: restore recordings, one after the other."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lily.audio.probe import probe
from lily.certify.check import failed as failed_checks
from lily.certify.check import summary
from lily.checkpoints.resolve import resolve_config
from lily.cli.checks import output_files, require_free
from lily.cli.finished import AskedSettings, finished_output
from lily.cli.model import add_model, load_engine
from lily.cli.progress import follow
from lily.cli.run_options import add_run, upsample_options
from lily.errors import InputError, LilyError
from lily.inference.options import FORMATS, PROFILE_NAMES, UpsampleOptions

if TYPE_CHECKING:
    from lily.inference.events import UpsampleResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="audio files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="results")
    add_model(parser)
    parser.add_argument("--encoder", choices=("on", "off"), default="on", help="global encoder")
    parser.add_argument(
        "--profile",
        choices=PROFILE_NAMES,
        default="lily",
        help="audiosr: cutoff, low-pass, draws and sampler as AudioSR's own pipeline has them",
    )
    add_run(parser)
    parser.add_argument("--format", choices=FORMATS, default="wav", help="of the results")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    parser.set_defaults(run=run_upsample)


def run_upsample(options: argparse.Namespace) -> int:
    """Restore every input; names and files are checked before the model is loaded.

    Exit code 2 if an input was refused, 1 if an output failed a check, now or when it was made.
    """
    _refuse_clashes(options.inputs, options.output, options.format)
    encoder = options.encoder == "on"
    chosen = upsample_options(options, encoder, options.profile, options.format)
    ready, failed, broken = _checked(options, chosen)
    if not ready:
        return _exit_code(failed, broken)
    engine = load_engine(options, chosen)
    for path in ready:
        try:
            result = follow(engine.stream(path, options.output, chosen), path)
        except LilyError as error:
            failed += 1
            print(f"lily: {error}", file=sys.stderr)
            continue
        broken += bool(failed_checks(result.checks))
        print(json.dumps(result.to_dict()) if options.json else _sentence(result), flush=True)
    return _exit_code(failed, broken)


def _exit_code(failed: int, broken: int) -> int:
    return 2 if failed else 1 if broken else 0


def _checked(options: argparse.Namespace, chosen: UpsampleOptions) -> tuple[list[Path], int, int]:
    """The inputs to restore, how many were refused, and how many kept outputs failed a check.

    Each refusal and each output that is kept is printed.
    """
    ready, failed, broken = [], 0, 0
    asked: AskedSettings | None = None
    for path in options.inputs:
        output = options.output / f"{path.stem}.{options.format}"
        finished = finished_output(output) if options.resume else None
        try:
            if finished:
                asked = asked or _asked(options, chosen)
                asked.require_same(finished, path)
                kept = f"lily: {finished.path} exists already and is kept"
                if names := failed_checks(finished.metadata.checks()):
                    broken += 1
                    kept += f", though it failed: {', '.join(names)}"
                print(f"{kept}.", file=sys.stderr)
                _discard_chunks(output)
                continue
            probe(path)
            require_free(*output_files(output))
        except LilyError as error:
            failed += 1
            print(f"lily: {error}", file=sys.stderr)
            continue
        ready.append(path)
    return ready, failed, broken


def _asked(options: argparse.Namespace, chosen: UpsampleOptions) -> AskedSettings:
    config = resolve_config(options.preset, options.weights)
    return AskedSettings(chosen, config, options.precision)


def _discard_chunks(output: Path) -> None:
    """Remove the chunks of a run that was killed between its result and its end."""
    if output.with_name(f"{output.name}.part").exists():
        from lily.inference.resume import discard_chunks

        discard_chunks(output)


def _refuse_clashes(inputs: Sequence[Path], folder: Path, ending: str) -> None:
    seen: dict[str, Path] = {}
    for path in inputs:
        if path.stem in seen:
            raise InputError(
                f"{seen[path.stem]} and {path} would both become {folder / path.stem}.{ending}; "
                "give them in two runs with two output folders."
            )
        seen[path.stem] = path


def _sentence(result: UpsampleResult) -> str:
    facts = f"{result.output}: {result.seconds:.2f} s, cutoff {result.cutoff_hz:.0f} Hz"
    if result.chunks:
        chunks = "1 chunk" if result.chunks == 1 else f"{result.chunks} chunks"
        facts += f", {chunks}, seed {result.seed}"
    facts += f", real-time factor {result.real_time_factor:.2f}"
    if result.checks:
        facts += f"; {summary(result.checks)}"
    found = result.diagnosis.text if result.diagnosis else ""
    context = result.context.sentence if result.context else ""
    notes = (result.format_note, result.peak_note, result.message)
    parts = (f"{facts}.", found, result.expectation, context, *notes)
    return " ".join(part for part in parts if part)
