"""What a file says about its recording besides the samples: tags, cover, broadcast and cue data.

FFmpeg reads the tags and the cover of any container. A WAV's own chunks (bext, iXML, cue and the
labels of its cues) are kept as they are, but for the places and rates in them, which become those
of the output. Sources: EBU Tech 3285 (bext), the iXML specification, Microsoft's RIFF (cue, adtl).
"""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from av.stream import Disposition

from lily.audio.ffmpeg import open_container
from lily.audio.repair import repaired
from lily.audio.riff import chunks, parts

KEPT_CHUNKS = (b"bext", b"iXML", b"cue ")  # and LIST chunks of the form "adtl"
LARGEST_COVER = 16 << 20  # bytes; a chunk may have as many
LONGEST_TEXT = 1 << 16  # characters of a tag
MOST_TAGS = 200
COVER_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}
# Names by which FFmpeg calls a tag in some containers, and Lily everywhere.
NAMES = {
    "track": "tracknumber",
    "disc": "discnumber",
    "album_artist": "albumartist",
    "year": "date",
}
# What describes the input file rather than the recording, or was measured from its samples.
LEFT_OUT = re.compile(
    r"encoder|encoding|major_brand|minor_version|compatible_brands|handler_name|language|"
    r"vendor_id|duration|bps|number_of_(frames|bytes)|_statistics.*|replaygain_.*|r128_.*|lame.*|"
    r"itun(smpb|norm|pgap|es_cddb.*)|wm/mediaclass.*|.*waveformatextensible_channel_mask|software"
)


@dataclass(frozen=True)
class Tags:
    """Tags by lower-case name, chunks of a WAV in their order, and a cover picture."""

    text: dict[str, str] = field(default_factory=dict)
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    cover: bytes = b""  # a JPEG or a PNG

    @property
    def cover_type(self) -> str:
        """The cover's MIME type; empty without one."""
        return next(
            (kind for magic, kind in COVER_TYPES.items() if self.cover[:4].startswith(magic)), ""
        )

    def at_rate(self, old: int, new: int) -> Tags:
        """The same with places in samples converted from one sample rate to another."""
        text = dict(self.text)
        if text.get("time_reference", "").isdigit():
            text["time_reference"] = str(round(int(text["time_reference"]) * new / old))
        moved = tuple((name, _at_rate(name, data, old, new)) for name, data in self.chunks)
        return Tags(text, moved, self.cover)

    def with_note(self, note: str) -> Tags:
        """The same with a note added to the comment."""
        comment = self.text.get("comment", "")
        return Tags(
            {**self.text, "comment": f"{comment}; {note}" if comment else note},
            self.chunks,
            self.cover,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "text": self.text,
            "chunks": [[name.decode("latin-1"), _text_of(data)] for name, data in self.chunks],
            "cover": _text_of(self.cover),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tags:
        """The tags that ``to_json`` described."""
        kept = tuple(
            (name.encode("latin-1"), base64.b64decode(data)) for name, data in values["chunks"]
        )
        return cls(values["text"], kept, base64.b64decode(values["cover"]))


def tags_of(file: BinaryIO, name: str) -> Tags:
    """Read the tags of an open file; what is too large or no tag of the recording is left out."""
    file, _ = repaired(file)
    container = open_container(file, name)
    text: dict[str, str] = {}
    cover = b""
    if container is not None:
        with container:
            best = container.streams.best("audio")
            for source in (container.metadata, best.metadata if best is not None else {}):
                text.update(_kept_text(source))
            cover = _cover(container)
    kept = _kept_chunks(file)
    for described in (data[:256].split(b"\0")[0] for name, data in kept if name == b"bext"):
        # FFmpeg takes bext's description for the comment, over one in LIST/INFO before it.
        text["bext_description"] = described.decode("cp1252", errors="replace").strip()
        text["comment"] = _info_comment(file)
    return Tags({name: value for name, value in text.items() if value}, tuple(kept), cover)


def _info_comment(file: BinaryIO) -> str:
    """The comment in a WAV's LIST/INFO; empty without one."""
    for chunk in list(chunks(file)):
        file.seek(chunk.start)
        if chunk.name == b"LIST" and chunk.size <= LARGEST_COVER and file.read(4) == b"INFO":
            data = file.read(chunk.size - 4)
            for name, start, size in parts(data):
                if name == b"ICMT":
                    value = data[start : start + size].decode(errors="surrogateescape")
                    return _readable(value).strip("\0 ")
    return ""


def _kept_text(source: dict[str, str]) -> dict[str, str]:
    kept = {}
    for key, value in list(source.items())[:MOST_TAGS]:
        name = NAMES.get(key.lower(), key.lower())
        value = _readable(value).replace("\0", " ").strip()
        is_name = name.isascii() and name.isprintable() and "=" not in name
        if value and is_name and len(value) <= LONGEST_TEXT and not LEFT_OUT.fullmatch(name):
            kept[name] = value
    return kept


def _readable(text: str) -> str:
    """Text that is not UTF-8 is taken for Windows-1252, of which Latin-1 is a part."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return text.encode(errors="surrogateescape").decode("cp1252", errors="replace")
    return text


def _cover(container: Any) -> bytes:
    """The attached picture; none if it is no JPEG or PNG."""
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            for packet in container.demux(stream):
                data = bytes(packet)
                if Tags(cover=data).cover_type and len(data) <= LARGEST_COVER:
                    return data
                break
    return b""


def _kept_chunks(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    kept = []
    for chunk in list(chunks(file)):
        file.seek(chunk.start)
        if chunk.size > LARGEST_COVER:
            continue
        is_labels = chunk.name == b"LIST" and file.read(4) == b"adtl"
        if is_labels or chunk.name in KEPT_CHUNKS:
            file.seek(chunk.start)
            data = file.read(chunk.size)
            if len(data) == chunk.size:
                kept.append((chunk.name, data))
    return kept


def _at_rate(name: bytes, data: bytes, old: int, new: int) -> bytes:
    """A chunk with its places and rates converted."""
    ratio, changed = new / old, bytearray(data)
    if name == b"bext" and len(data) >= 346:  # time reference: samples since midnight
        _scale(changed, "<Q", 338, ratio)
    elif name == b"cue ":
        for place in range(4, len(data) - 23, 24):  # position in the order of play, and in the file
            _scale(changed, "<I", place + 4, ratio)
            _scale(changed, "<I", place + 20, ratio)
    elif name == b"LIST":
        for kind, start, size in parts(data[4:]):
            if kind == b"ltxt" and size >= 8:  # a region's length
                _scale(changed, "<I", 4 + start + 4, ratio)
    elif name == b"iXML":
        for rate_of in (b"FILE_SAMPLE_RATE", b"DIGITIZER_SAMPLE_RATE"):
            changed = bytearray(
                re.sub(rb"(<%s>\s*)%d(\s*<)" % (rate_of, old), rb"\g<1>%d\g<2>" % new, changed)
            )
    return bytes(changed)


def _scale(data: bytearray, form: str, place: int, ratio: float) -> None:
    (value,) = struct.unpack_from(form, data, place)
    most = (1 << 8 * struct.calcsize(form)) - 1
    struct.pack_into(form, data, place, min(most, round(value * ratio)))


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
