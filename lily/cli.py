"""The command line: arguments in, one engine, JSON lines out; the only place that prints.

Results go to standard output (with ``--json`` one object a line), progress and messages to standard
error. Bad input ends in one sentence and exit code 2, a cancelled run in 130.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lily.config import preset_names
from lily.errors import InputError, LilyError
from lily.events import (
    ChunksDone,
    ContextRead,
    Finished,
    Measured,
    Planned,
    Sampling,
    UpsampleOptions,
    UpsampleResult,
)

# torch takes seconds to import: each command imports what it runs, so that --help and a mistyped
# option answer at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return options.run(options)
    except BrokenPipeError:  # whoever read the output has enough
        return 1
    except LilyError as error:
        print(f"lily: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a file where a folder should be
        place = f" ({error.filename})" if error.filename else ""
        print(f"lily: {error.strerror or error}{place}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lily: cancelled, nothing half-written is left behind.", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    parser = argparse.ArgumentParser(
        prog="lily", description="Fill in the missing top of recordings: any audio in, 48 kHz out."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_upsample(commands.add_parser("upsample", help="fill in recordings"))
    _add_train(commands.add_parser("train", help="train a preset on a folder of audio"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a preset against baselines"))
    _add_info(commands.add_parser("info", help="describe a preset"))
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        default="lily-mini",
        help=f"{', '.join(preset_names())} (default: lily-mini) or a YAML file",
    )
    parser.add_argument("--weights", metavar="FOLDER", help="a model folder instead of a preset")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")


def _add_upsample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="audio files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="results")
    _add_model(parser)
    parser.add_argument("--encoder", choices=("on", "off"), default="on", help="global encoder")
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--sampler", help="dpmpp2m or ddim; default: the preset's")
    parser.add_argument(
        "--guidance", type=float, help="1 turns guidance off; default: the preset's"
    )
    parser.add_argument("--seed", type=int, help="same seed, same samples; default: drawn")
    parser.add_argument("--cutoff", type=float, metavar="HZ", help="default: detected")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    parser.set_defaults(run=run_upsample)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="lily-mini", metavar="NAME_OR_YAML")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of audio")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder")
    parser.add_argument("--stage", default="all", help="one stage of the recipe; default: all")
    parser.add_argument(
        "--train",
        choices=("all", "encoder"),
        default="all",
        dest="part",
        help="encoder: its stage alone, everything else frozen as --out has it",
    )
    parser.add_argument("--resume", action="store_true", help="continue where a run stopped")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.set_defaults(run=run_train)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="full-band recordings")
    _add_model(parser)
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4000, 8000, 12000])
    parser.add_argument("--limit", type=int, metavar="N", help="only N files, evenly spread")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each file, from its start")
    parser.add_argument("--steps", type=int, help="sampler steps; default: the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_evaluate)


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="lily-mini", metavar="NAME_OR_YAML")
    parser.add_argument(
        "--profile", action="store_true", help="time and memory of the encoder, 10 s to 1 h"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_info)


# ---- upsample -----------------------------------------------------------------------------------


def run_upsample(options: argparse.Namespace) -> int:
    """Fill in every input; all names are checked before the model is loaded."""
    _refuse_clashes(options.inputs, options.output)
    upsample_options = UpsampleOptions(
        encoder=options.encoder == "on",
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        seed=options.seed,
        cutoff_hz=options.cutoff,
    )
    from lily.engine import InferenceEngine
    from lily.weights import resolve_config

    config = resolve_config(options.preset, options.weights)
    engine = InferenceEngine(config, options.device, options.precision)
    failed = 0
    for path in options.inputs:
        try:
            result = _follow(engine.stream(path, options.output, upsample_options), path)
        except LilyError as error:
            failed += 1
            print(f"lily: {error}", file=sys.stderr)
            continue
        print(json.dumps(_as_json(result)) if options.json else _sentence(result), flush=True)
    return 2 if failed else 0


def _refuse_clashes(inputs: Sequence[Path], folder: Path) -> None:
    seen: dict[str, Path] = {}
    for path in inputs:
        if path.stem in seen:
            raise InputError(
                f"{seen[path.stem]} and {path} would both become {folder / (path.stem + '.wav')}; "
                "give them in two runs with two output folders."
            )
        seen[path.stem] = path


def _follow(events: Iterator[Any], path: Path) -> UpsampleResult:
    from tqdm import tqdm

    total = 0
    with tqdm(desc=path.name, unit="step", file=sys.stderr, disable=None, leave=False) as bar:
        for event in events:
            if isinstance(event, Measured):
                bar.set_postfix_str(f"cutoff {event.cutoff_hz:.0f} Hz")
            elif isinstance(event, ContextRead):
                bar.set_postfix_str(f"reading the recording, {event.done:.0%}")
            elif isinstance(event, Planned):
                total = len(event.chunks)
                bar.reset(total)
                bar.unit = "chunk"
            elif isinstance(event, Sampling):
                bar.set_postfix_str(f"step {event.step}/{event.steps}")
            elif isinstance(event, ChunksDone):
                bar.update(event.done - bar.n)
            elif isinstance(event, Finished):
                return event.result
    raise RuntimeError("the engine ended without a result")


def _as_json(result: UpsampleResult) -> dict[str, Any]:
    return {
        "output": str(result.output),
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "samples": result.samples,
        "cutoff_hz": round(result.cutoff_hz, 1),
        "chunks": result.chunks,
        "seed": result.seed,
        "steps": result.steps,
        "sampler": result.sampler,
        "guidance": result.guidance,
        "real_time_factor": round(result.real_time_factor, 4),
        "encoder": "on" if result.encoder else "off",
        "model": result.model,
        "input_sample_rate": result.input_sample_rate,
        "subtype": result.subtype,
        "message": result.message,
    }


def _sentence(result: UpsampleResult) -> str:
    facts = f"{result.output}: {result.seconds:.2f} s, cutoff {result.cutoff_hz:.0f} Hz"
    if result.chunks:
        chunks = "1 chunk" if result.chunks == 1 else f"{result.chunks} chunks"
        facts += f", {chunks}, seed {result.seed}"
    facts += f", real-time factor {result.real_time_factor:.2f}"
    return f"{facts}. {result.message}".rstrip()


# ---- train --------------------------------------------------------------------------------------


def run_train(options: argparse.Namespace) -> int:
    """Train the stages asked for, with a progress bar a stage."""
    from tqdm import tqdm

    from lily.config import load_config
    from lily.device import choose_device
    from lily.training.stages import STAGES
    from lily.training.train import train

    if options.stage not in (*STAGES, "all"):
        raise InputError(f"Stage {options.stage!r} is not known; give {', '.join(STAGES)} or all.")
    if options.part == "encoder" and options.stage not in ("all", "encoder"):
        raise InputError(
            f"--train encoder is a stage of its own; leave out --stage {options.stage}."
        )
    stages = STAGES if options.stage == "all" else (options.stage,)
    stages = ("encoder",) if options.part == "encoder" else stages
    progress = train(
        load_config(options.preset),
        options.data,
        options.out,
        stages=stages,
        resume=options.resume,
        device=choose_device(options.device),
    )
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
    print(f"The model folder is {options.out / 'model'}.")
    return 0


# ---- evaluate -----------------------------------------------------------------------------------


def run_evaluate(options: argparse.Namespace) -> int:
    """Print LSD-HF by cutoff: the degraded input, shaped noise, encoder off, encoder on."""
    from dataclasses import asdict

    from tqdm import tqdm

    from lily.engine import InferenceEngine
    from lily.evaluation.run import evaluate, means
    from lily.training.dataset import find_recordings
    from lily.weights import resolve_config

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


# ---- info ---------------------------------------------------------------------------------------


def run_info(options: argparse.Namespace) -> int:
    """Describe a preset: parameter counts and, on request, what the encoder costs."""
    from lily.config import load_config
    from lily.info import describe, profile_encoder

    config = load_config(options.preset)
    facts = describe(config)
    if options.profile:
        facts["profile"] = profile_encoder(config)
    if options.json:
        print(json.dumps(facts))
        return 0
    for section, values in facts.items():
        rows = values if isinstance(values, list) else [values]
        print(f"{section}:")
        for row in rows:
            items = row.items() if isinstance(row, dict) else [("", row)]
            print("  " + "  ".join(f"{k} {_number(v)}".strip() for k, v in items))
    return 0


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
