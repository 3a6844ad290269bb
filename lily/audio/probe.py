"""Describe an audio file without reading it all, and without torch.

The file is opened by the decoders of ``lily.audio.decoder`` in a child process, as for reading it.
"""

from __future__ import annotations

import os
from pathlib import Path

from lily.audio.info import AudioInfo
from lily.audio.sandbox import decoded
from lily.errors import InputError


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Return the sample rate, channels, length and format of a file.

    Raises InputError if it is missing, a folder, empty, not audio or outside the limits.
    """
    info, pieces = decoded(existing_file(path))
    pieces.close()
    return info


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path of a readable file; raises InputError if it is missing, a folder or empty."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an audio file.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device, which can be read once; give a file.")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the path of an audio file."
        ) from error
    if size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); give an audio file.")
    return path
