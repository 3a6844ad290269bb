"""Find the recordings of a corpus and split them by source; needs no torch.

Splitting is by source, never by clip: the source is the part of a file's name before ``__``, else
its folder, else the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lily.errors import InputError

SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".m4a", ".aac", ".w64")
)
EFFECTS = ("sfx", "effects")  # folders of sound effects, which may be played at other speeds


@dataclass(frozen=True)
class Recording:
    """One audio file of the corpus and the source it belongs to."""

    path: Path
    name: str  # its path within the folder, which seeds its random draws
    source: str
    key: str  # names its files in the cache; another size or date, another key

    @property
    def effect(self) -> bool:
        """Whether it is a sound effect, which may be resampled to other speeds for augmentation."""
        return self.name.split("/")[0] in EFFECTS


def find_recordings(folder: Path) -> list[Recording]:
    """Every audio file below ``folder``, in a fixed order; raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of audio files.")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"{folder} holds no audio; it may hold {', '.join(sorted(SUFFIXES))}.")
    return [
        Recording(p, p.relative_to(folder).as_posix(), _source(p, folder), _key(p, folder))
        for p in paths
    ]


def _source(path: Path, folder: Path) -> str:
    if "__" in path.stem:
        return path.stem.split("__")[0]
    parent = path.parent.relative_to(folder)
    return str(parent) if str(parent) != "." else path.stem


def _key(path: Path, folder: Path) -> str:
    stat = path.stat()
    name = f"{path.relative_to(folder)}:{stat.st_size}:{stat.st_mtime_ns}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def split_by_source(
    recordings: Sequence[Recording], fraction: float, seed: int, named: Sequence[str] = ()
) -> tuple[list[Recording], list[Recording]]:
    """Training and validation recordings; no source is in both.

    The sources ``named`` are held out if there are any; otherwise sources are taken for validation
    in a seeded order while they fit into ``fraction`` of the recordings, so that one large source
    cannot fill the whole part.
    """
    if named:
        training = [r for r in recordings if r.source not in named]
        return training, [r for r in recordings if r.source in named]
    sizes: dict[str, int] = {}
    for recording in recordings:
        sizes[recording.source] = sizes.get(recording.source, 0) + 1
    order = sorted(sizes, key=lambda s: hashlib.blake2b(f"{seed}:{s}".encode()).digest())
    room, held_out = fraction * len(recordings), set()
    for source in order:
        if sizes[source] <= room:
            held_out.add(source)
            room -= sizes[source]
    training = [r for r in recordings if r.source not in held_out]
    return training, [r for r in recordings if r.source in held_out]
