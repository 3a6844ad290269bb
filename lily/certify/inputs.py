"""Check the files of a verification before anything is measured; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lily.audio.info import AudioInfo
from lily.audio.probe import probe
from lily.certify.paths import metadata_path
from lily.errors import InputError


@dataclass(frozen=True)
class VerifyInputs:
    """The files of a verification, described."""

    info: AudioInfo  # of the file under test
    metadata: Path | None  # None: there is none beside the file
    recording: AudioInfo | None  # None: it is tested against its metadata alone


def verify_inputs(file: Path, against: Path | None) -> VerifyInputs:
    """Describe the files; raises InputError if one cannot be read or there is nothing to test."""
    info, path = probe(file), metadata_path(file)
    metadata = path if path.exists() else None
    if against is None and metadata is None:
        raise InputError(
            f"{file} has no metadata ({path.name}) beside it; give the recording that it was made "
            "of with --against."
        )
    return VerifyInputs(info, metadata, None if against is None else probe(against))
