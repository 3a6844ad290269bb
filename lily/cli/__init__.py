"""The command line, one module per command. Only this package prints.

Results go to standard output (with ``--json`` one object per line), progress and messages to
standard error. Exit codes: 2 for bad input, with one sentence; 130 for a cancelled run. torch takes
seconds to import, so commands import it when their arguments and inputs have been checked.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lily.cli import (
    average,
    batch,
    bench,
    compare,
    convert,
    evaluate,
    info,
    publish,
    train,
    upsample,
    verify,
)
from lily.errors import LilyError
from lily.version import VERSION

COMMANDS = {
    "upsample": (upsample, "restore recordings"),
    "batch": (batch, "restore a folder, a list or a bucket of recordings"),
    "compare": (compare, "restore a recording with the encoder off and on"),
    "verify": (verify, "test an output against its recording"),
    "train": (train, "train a preset on a folder of audio"),
    "evaluate": (evaluate, "measure a model against baselines"),
    "convert": (convert, "turn an AudioSR checkpoint into a model folder"),
    "average": (average, "average the weights of models"),
    "publish": (publish, "upload a model folder to the Hub"),
    "bench": (bench, "measure speed and memory on this machine"),
    "info": (info, "describe a preset"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    # `kill`, containers and the schedulers of clusters send SIGTERM: end as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # ``parse_args`` would print the usage of lily, not of the command
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    # Read when torch is imported: what an Apple GPU lacks runs on the CPU, with a warning.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader of a pipe has closed it
        return 1
    except LilyError as error:
        print(f"lily: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a file where a folder should be
        place = f" ({error.filename})" if error.filename else ""
        print(f"lily: {error.strerror or error}{place}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resume = " The same command with --resume continues." * hasattr(options, "resume")
        hint = getattr(options, "continue_hint", resume)
        print(f"lily: cancelled; no incomplete file is left.{hint}", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    started_as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m lily" if started_as_module else "lily",
        description="Restore the missing high frequencies of recordings: any audio in, 48 kHz out.",
    )
    parser.add_argument("--version", action="version", version=f"lily {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        module.add_arguments(command)
        command.set_defaults(parser=command)
    return parser
