"""``lily publish``: put a model folder on the Hub."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from lily.checkpoints.folder_config import read_folder_config
from lily.cli.model import LoadBar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a model folder")
    parser.add_argument("name", metavar="OWNER/NAME", help="what it is called on the Hub")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--space", metavar="OWNER/NAME", help="also a Space that serves it")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run_publish)


def run_publish(options: argparse.Namespace) -> int:
    """Check, write the card, upload; prints where it is."""
    read_folder_config(options.folder)
    from lily.publish.upload import publish

    with LoadBar() as notify:
        published = publish(
            options.folder,
            options.name,
            private=options.private,
            space=options.space,
            notify=notify,
        )
    if options.json:
        print(json.dumps(asdict(published)))
        return 0
    print(published.model)
    if published.space:
        print(published.space)
    return 0
