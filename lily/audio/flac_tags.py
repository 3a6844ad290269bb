"""Copy a FLAC file with other metadata: Vorbis comments and a cover.

libsndfile writes them, but not at the end and no cover. Sources: RFC 9639 (FLAC), the Vorbis
comment specification.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from typing import BinaryIO

from lily.audio.tags import Tags

STREAM_INFO, COMMENTS, PICTURE = 0, 4, 6  # types of metadata blocks
LAST = 0x80  # added to the type of the last one
FRONT_COVER = 3
VENDOR = b"Lily"
LARGEST_BLOCK = 0xFFFFFF  # bytes: a length has 24 bits


def copy_with_tags(source: BinaryIO, target: BinaryIO, tags: Tags) -> None:
    """Copy a whole FLAC file, its samples as they are; its comments become those of ``tags``.

    Comments or a cover that are too large for a metadata block are left out.
    """
    blocks = [(kind, data) for kind, data in _blocks(source) if kind != COMMENTS]
    blocks.insert(1, (COMMENTS, _comments(tags.text)))
    if tags.cover_type:
        blocks.append((PICTURE, _picture(tags)))
    blocks = [(kind, data) for kind, data in blocks if len(data) <= LARGEST_BLOCK]
    target.write(b"fLaC")
    for place, (kind, data) in enumerate(blocks):
        last = LAST if place == len(blocks) - 1 else 0
        target.write(struct.pack(">I", (kind | last) << 24 | len(data)) + data)
    shutil.copyfileobj(source, target)


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Read the metadata blocks; the file's place is then that of the first frame."""
    file.seek(4)
    kind = 0
    while not kind & LAST:
        (head,) = struct.unpack(">I", file.read(4))
        kind = head >> 24
        yield kind & ~LAST, file.read(head & 0xFFFFFF)


def _comments(text: dict[str, str]) -> bytes:
    lines = [f"{name.upper()}={value}".encode() for name, value in text.items()]
    counted = [struct.pack("<I", len(line)) + line for line in (VENDOR, *lines)]
    return counted[0] + struct.pack("<I", len(lines)) + b"".join(counted[1:])


def _picture(tags: Tags) -> bytes:
    """A picture whose size in pixels is left to the reader, which takes it from the picture."""
    kind = tags.cover_type.encode("ascii")
    head = struct.pack(">II", FRONT_COVER, len(kind)) + kind
    return head + struct.pack(">IIIIII", 0, 0, 0, 0, 0, len(tags.cover)) + tags.cover
