"""Checks of arguments, inputs and outputs that need no torch, made before a model is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from lily.audio.temp_files import require_new
from lily.certify.paths import metadata_path
from lily.errors import InputError


def count(text: str) -> int:
    """A whole number of at least 1, as argparse's ``type``."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def require_folder(path: Path) -> None:
    """Raise InputError if a folder does not exist."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; give an existing one.")


def require_free(*paths: Path) -> None:
    """Raise InputError if a file exists already or cannot have its name."""
    for path in paths:
        require_new(path)


def output_files(output: Path) -> tuple[Path, ...]:
    """The files that a run may write for an output: where a FLAC would clip, a float WAV."""
    return (*dict.fromkeys((output, output.with_suffix(".wav"))), metadata_path(output))


def comparison_files(folder: Path, stem: str, referenced: bool) -> tuple[Path, ...]:
    """The files that ``compare`` writes."""
    endings = [f"{kind}.{ending}" for kind in ("off", "on") for ending in ("wav", "json", "png")]
    endings += ["diff.wav", "diff.png", "json", *(["reference.wav"] if referenced else [])]
    return tuple(folder / f"{stem}.{ending}" for ending in endings)
