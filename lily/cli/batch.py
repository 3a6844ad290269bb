"""``lily batch``: fill in a folder, a list or a bucket of recordings, here or on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from typing import Any

from lily.batch.manifest import row_checks
from lily.certify.check import failed
from lily.checkpoints.resolve import resolve_config
from lily.cli.checks import count
from lily.cli.model import add_model, load_engine
from lily.cli.run_options import add_run, upsample_options
from lily.inference.options import PROFILE_NAMES, UpsampleOptions
from lily.inference.profiles import completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "source",
        metavar="IN",
        help="a folder, a quoted pattern ('tapes/**/*.mp3'), a .txt of paths, or a URL (s3://...)",
    )
    parser.add_argument(
        "output", metavar="OUT", help="a folder or URL; IN's tree is mirrored there"
    )
    add_model(parser)
    parser.add_argument("--encoder", choices=("on", "off"), default="on", help="global encoder")
    parser.add_argument("--profile", choices=PROFILE_NAMES, default="lily", help="as for upsample")
    add_run(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="make results anew; else what exists is skipped"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="spread over Ray: on this machine, or on the cluster at ADDRESS",
    )
    parser.add_argument(
        "--workers", type=count, help="with --ray; default: what memory and CPU hold"
    )
    parser.add_argument("--threads", type=count, help="CPU threads of a worker's engine")
    parser.add_argument("--json", action="store_true", help="the manifest's rows on stdout")
    parser.set_defaults(
        run=run_batch,
        continue_hint=" The same command continues; with --resume also within recordings.",
    )


def run_batch(options: argparse.Namespace) -> int:
    """Fill in everything; exit code 1 if a recording failed, or its result failed a check."""
    from lily.batch.plan import Request
    from lily.batch.run import run
    from lily.batch.storage import check_reachable

    request = Request(
        source=options.source,
        folder=options.output,
        options=upsample_options(options, options.encoder == "on", options.profile),
        model=options.weights or options.preset,
        overwrite=options.overwrite,
    )
    completed(request.options, resolve_config(options.preset, options.weights))
    for address in (options.source, options.output):
        check_reachable(address)
    with BatchBar(options.json) as bar:
        progress = run(request, lambda: _workers(options, request.options), bar)
    print(f"lily: {summary(progress)}", file=sys.stderr)
    return 1 if progress.failed or progress.broken else 0


def _workers(options: argparse.Namespace, chosen: UpsampleOptions) -> Any:
    if options.ray is not None:
        from lily.batch.cluster import Cluster, Model

        model = Model(options.preset, options.weights, options.device, options.precision)
        return Cluster(model, options.ray, options.workers, options.threads)
    engine = load_engine(options, chosen)
    import torch

    from lily.batch.work import ThisProcess

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return nullcontext(ThisProcess(engine))


class BatchBar:
    """One bar for the whole batch, a line for every recording that failed."""

    def __init__(self, as_json: bool) -> None:
        from tqdm import tqdm

        self._json = as_json
        form = "{n_fmt}/{total_fmt} files |{bar}| {desc}"
        self._bar = tqdm(file=sys.stderr, disable=None, bar_format=form, mininterval=0.2)

    def __enter__(self) -> BatchBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, progress: Any, row: dict[str, Any] | None) -> None:
        """Show how far the batch is, and what has become of a recording."""
        self._bar.total = progress.files
        self._bar.set_description_str(standing(progress), refresh=False)
        self._bar.update(progress.settled - self._bar.n)
        if row is None:
            return
        if self._json:
            print(json.dumps(row), flush=True)
        if row["error"]:
            self._bar.write(f"lily: {row['input']}: {row['error']}", file=sys.stderr)
        if names := failed(row_checks(row)):
            self._bar.write(f"lily: {row['output']}: failed: {', '.join(names)}", file=sys.stderr)


def standing(progress: Any) -> str:
    """Audio hours, real-time factor and time left of a run that is under way."""
    facts = [f"{progress.audio_seconds / 3600:.2f} h of audio"]
    if progress.real_time_factor is not None:
        facts.append(f"real-time factor {progress.real_time_factor:.2f}")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        facts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return ", ".join(facts)


def summary(progress: Any) -> str:
    """What a run has done, in a sentence."""
    text = f"{progress.done} done, {progress.failed} failed, {progress.skipped} skipped"
    if progress.finished_before:
        text += f", {progress.finished_before} finished before"
    if progress.broken:
        text += f", {progress.broken} with a failed check"
    text += f" of {progress.files} files; {progress.audio_seconds / 3600:.2f} h of audio"
    text += f" in {progress.seconds:.0f} s"
    if progress.real_time_factor is not None:
        text += f", real-time factor {progress.real_time_factor:.2f}"
    return f"{text}."
