"""An ID3v2.3 tag: what a WAV keeps of tags that LIST/INFO has no name for, and of a cover.

Source: id3.org, "ID3 tag version 2.3.0".
"""

from __future__ import annotations

import struct

from lily.audio.tags import Tags

FRAMES = {
    "title": b"TIT2", "artist": b"TPE1", "album": b"TALB", "albumartist": b"TPE2",
    "composer": b"TCOM", "genre": b"TCON", "date": b"TYER", "tracknumber": b"TRCK",
    "discnumber": b"TPOS", "copyright": b"TCOP", "encoded_by": b"TENC", "publisher": b"TPUB",
}  # fmt: skip
UTF_16 = b"\1"  # the encoding of every text here, with a byte-order mark
FRONT_COVER = b"\3"


def id3_tag(tags: Tags) -> bytes:
    """A whole tag with all text and the cover."""
    frames = [_text_frame(name, text) for name, text in tags.text.items()]
    if tags.cover_type:
        kind = tags.cover_type.encode("ascii")
        frames.append(_frame(b"APIC", b"\0" + kind + b"\0" + FRONT_COVER + b"\0" + tags.cover))
    body = b"".join(frames)
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))  # 7 bits a byte
    return b"ID3\3\0\0" + size + body


def _text_frame(name: str, text: str) -> bytes:
    if name == "comment":
        return _frame(b"COMM", UTF_16 + b"eng" + _utf_16("") + _utf_16(text))
    if name in FRAMES:
        return _frame(FRAMES[name], UTF_16 + _utf_16(text))
    return _frame(b"TXXX", UTF_16 + _utf_16(name) + _utf_16(text))


def _frame(name: bytes, content: bytes) -> bytes:
    return struct.pack(">4sIH", name, len(content), 0) + content


def _utf_16(text: str) -> bytes:
    return text.encode("utf-16-le").join((b"\xff\xfe", b"\0\0"))
