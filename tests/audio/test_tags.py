"""Laws of tags: what a file says of its recording is read whatever the container, and kept."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from made import mp3, sound, written

from lily.audio.flac_tags import LARGEST_BLOCK, copy_with_tags
from lily.audio.sandbox import read_tags
from lily.audio.tags import Tags

TEXT = {
    "title": "Take five",
    "artist": "Dave",
    "album": "Time out",
    "date": "1959",
    "genre": "Jazz",
}
JPEG = b"\xff\xd8\xff\xe0" + bytes(500)


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def wav_with(*chunks: bytes, rate: int = 16_000) -> bytes:
    body = written(sound(0.2, rate), rate, "WAV", "PCM_16")[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def tags(folder: Path, name: str, data: bytes) -> Tags:
    (folder / name).write_bytes(data)
    return read_tags(folder / name)


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp3", "libmp3lame"), ("flac", "flac"), ("opus", "libopus")]
    + [("ipod", "aac"), ("matroska", "aac"), ("wav", "pcm_s16le"), ("aiff", "pcm_s16be")],
)
def test_the_usual_tags_of_every_container_are_read(tmp_path: Path, form: str, codec: str) -> None:
    file = io.BytesIO()
    file.name = f"a.{form}"
    with av.open(file, "w", format=form) as container:
        container.metadata.update({**TEXT, "comment": "a note", "track": "3"})
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        kind = stream.codec_context.codec.audio_formats[0].name
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        size = stream.codec_context.frame_size or 1_024
        converter = av.AudioResampler(kind, "mono", 48_000, frame_size=size)
        for piece in [*converter.resample(frame), *converter.resample(None), None]:
            container.mux(stream.encode(piece))
    found = tags(tmp_path, f"a.{form}", file.getvalue()).text
    wanted = {**TEXT, "comment": "a note", "tracknumber": "3"}
    if form == "aiff":  # which has no other of them
        wanted = {name: wanted[name] for name in ("title", "comment")}
    assert {name: found.get(name) for name in wanted} == wanted
    assert "encoder" not in found


@pytest.mark.parametrize(
    ("raw", "read"), [(b"caf\xe9", "café"), ("café".encode(), "café"), (b"\x93x\x94", "“x”")]
)
def test_tags_in_an_old_encoding_are_read_and_refuse_no_sound(tmp_path, raw, read):
    first, rest = mp3(sound(0.5), 44_100)
    id3v1 = b"TAG" + raw.ljust(30, b"\0") + bytes(60) + b"1959" + bytes(30) + b"\x08"
    assert tags(tmp_path, "a.mp3", first + rest + id3v1).text["title"] == read
    info = chunk(b"LIST", b"INFO" + chunk(b"INAM", raw + b"\0"))
    assert tags(tmp_path, "a.wav", wav_with(info)).text["title"] == read


def test_a_cover_is_read_and_other_pictures_are_not(tmp_path):
    def picture(kind: bytes, data: bytes) -> bytes:
        content = b"\0" + kind + b"\0\x03\0" + data
        frame = b"APIC" + struct.pack(">IH", len(content), 0) + content
        size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
        return b"ID3\3\0\0" + size + frame

    sounding = b"".join(mp3(sound(0.5), 44_100))
    assert tags(tmp_path, "a.mp3", picture(b"image/jpeg", JPEG) + sounding).cover == JPEG
    assert tags(tmp_path, "b.mp3", picture(b"image/bmp", b"BM" + bytes(99)) + sounding).cover == b""
    assert tags(tmp_path, "c.mp3", sounding).cover == b""


def test_what_describes_the_file_or_its_loudness_is_left_out(tmp_path):
    info = b"INFO" + chunk(b"ISFT", b"Some editor\0") + chunk(b"ICOP", b"me\0")
    assert tags(tmp_path, "a.wav", wav_with(chunk(b"LIST", info))).text == {"copyright": "me"}


def bext(reference: int) -> bytes:
    data = bytearray(602)
    data[:6], data[320:338] = b"Side A", b"2001-02-0304:05:06"
    data[338:346] = struct.pack("<Q", reference)
    return bytes(data)


def cue(*places: int) -> bytes:
    points = [struct.pack("<II4sIII", n, p, b"data", 0, 0, p) for n, p in enumerate(places, 1)]
    return struct.pack("<I", len(points)) + b"".join(points)


def labels(length: int) -> bytes:
    region = struct.pack("<II4sHHHH", 1, length, b"rgn ", 0, 0, 0, 0)
    return b"adtl" + chunk(b"labl", struct.pack("<I", 1) + b"go\0") + chunk(b"ltxt", region)


@pytest.mark.parametrize(("old", "new"), [(16_000, 48_000), (44_100, 48_000), (96_000, 48_000)])
def test_places_in_samples_become_those_of_the_output(tmp_path, old, new):
    ixml = b"<BWFXML><FILE_SAMPLE_RATE>%d</FILE_SAMPLE_RATE><SCENE>1</SCENE></BWFXML>"
    made = wav_with(
        chunk(b"bext", bext(old * 3_600)),
        chunk(b"cue ", cue(old // 10, old // 5)),
        chunk(b"LIST", labels(old // 4)),
        chunk(b"iXML", ixml % old),
        chunk(b"junk", b"left out"),
        rate=old,
    )
    found = tags(tmp_path, "a.wav", made).at_rate(old, new)
    assert found.chunks == (
        (b"bext", bext(new * 3_600)),
        (b"cue ", cue(new // 10, new // 5)),
        (b"LIST", labels(new // 4)),
        (b"iXML", ixml % new),
    )
    assert found.text["bext_description"] == "Side A"
    assert found.text["time_reference"] == str(new * 3_600)


def test_damaged_chunks_are_kept_or_left_out_and_never_an_error(tmp_path):
    short = wav_with(chunk(b"bext", b"short"), chunk(b"cue ", b"\1\0"), chunk(b"LIST", b"adtllabl"))
    found = tags(tmp_path, "a.wav", short).at_rate(16_000, 48_000)
    assert [name for name, _ in found.chunks] == [b"bext", b"cue ", b"LIST"]
    cut = wav_with(b"bext" + struct.pack("<I", 5_000) + bytes(100))
    assert tags(tmp_path, "b.wav", cut).chunks == ()
    assert tags(tmp_path, "c.wav", b"no sound at all") == Tags()


def test_a_note_is_added_to_a_comment(tmp_path):
    assert Tags({"comment": "mine"}).with_note("Lily").text == {"comment": "mine; Lily"}
    assert Tags({"title": "x"}).with_note("Lily").text == {"title": "x", "comment": "Lily"}


def test_what_is_too_large_for_a_block_is_left_out_of_a_flac_whose_samples_stay() -> None:
    source = io.BytesIO(written(sound(0.2, 16_000), 16_000, "FLAC", "PCM_16"))
    for text, cover, kept in (
        ({"title": "Take five"}, JPEG + bytes(LARGEST_BLOCK), {"TITLE": "Take five"}),
        ({f"t{n}": "x" * 65_000 for n in range(300)}, JPEG, {}),
    ):
        source.seek(0)
        copy = io.BytesIO()
        copy_with_tags(source, copy, Tags(text, cover=cover))
        for stream in (source, copy):
            stream.seek(0)
        assert np.array_equal(soundfile.read(copy)[0], soundfile.read(source)[0])
        copy.seek(0)
        with av.open(copy) as container:
            assert {key.upper(): value for key, value in container.metadata.items()} == kept
