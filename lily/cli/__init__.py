"""The command line: arguments in, one engine, JSON lines out; the only place that prints.

Results go to standard output (with ``--json`` one object a line), progress and messages to standard
error. Bad input ends in one sentence and exit code 2, a cancelled run in 130. One command a file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from lily.cli import (
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

COMMANDS = {
    "upsample": (upsample, "fill in recordings"),
    "batch": (batch, "fill in a folder, a list or a bucket of recordings"),
    "compare": (compare, "hear what the encoder does to a recording"),
    "verify": (verify, "test an output against its recording"),
    "train": (train, "train a preset on a folder of audio"),
    "evaluate": (evaluate, "measure a preset against baselines"),
    "convert": (convert, "turn an AudioSR checkpoint into a model folder"),
    "publish": (publish, "put a model folder on the Hub"),
    "bench": (bench, "measure speed and memory on this machine"),
    "info": (info, "describe a preset"),
}

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
        again = " With --resume the same command goes on from there." * hasattr(options, "resume")
        more = getattr(options, "goes_on", again)
        print(f"lily: cancelled, nothing half-written is left behind.{more}", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    parser = argparse.ArgumentParser(
        prog="lily", description="Fill in the missing top of recordings: any audio in, 48 kHz out."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=summary))
    return parser
