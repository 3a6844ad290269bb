"""Laws of mixes as files: tags, cover and speakers of a take are those of its mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made import pitch, tones
from test_write import PNG

from lily.audio.mix import ENDINGS, FORMATS, write_mix
from lily.audio.read import probe, read_audio, read_tags
from lily.audio.tags import Tags
from lily.audio.write import AudioWriter
from lily.errors import InputError

JPEG = b"\xff\xd8\xff\xe0" + bytes(200)
TEXT = {
    "title": "Rêve – 夢",
    "artist": "A",
    "album": "B",
    "albumartist": "C",
    "tracknumber": "3",
    "discnumber": "1",
    "date": "1999",
    "genre": "Jazz",
    "comment": "taped off the radio; Lily 0.1",
}


def written(path: Path, samples: np.ndarray, speakers: int | None, tags: Tags) -> Path:
    options = {"frames": len(samples), "speakers": speakers, "tags": tags}
    with AudioWriter(path, 48_000, samples.shape[1], **options) as writer:
        writer.write(torch.from_numpy(samples.T.astype(np.float32)))
    return path


def mixed(folder: Path, kind: str, channels: int = 2, speakers: int | None = None, **tags) -> Path:
    """A mix at -6 dB of a take with tags, over a recording without any."""
    samples = tones(channels, 0.25)
    recording = written(folder / "a.wav", 0.5 * samples, speakers, Tags())
    take = written(folder / "b.wav", samples, speakers, Tags(**tags))
    return write_mix(recording, take, 0.5, folder / f"mix.{ENDINGS[kind]}", kind)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("cover", [b"", PNG, JPEG], ids=["none", "PNG", "JPEG"])
def test_a_mix_has_the_tags_and_the_cover_of_its_take(tmp_path, kind, cover):
    made = read_tags(mixed(tmp_path, kind, text=TEXT, cover=cover))
    assert made.text == TEXT and made.cover == cover


@pytest.mark.parametrize("kind", ["wav16", "wav24", "wav32f"])
def test_a_wav_keeps_its_broadcast_data(tmp_path, kind):
    chunks = ((b"bext", b"Side A".ljust(602, b"\0")), (b"iXML", b"<BWFXML/>"))
    assert read_tags(mixed(tmp_path, kind, chunks=chunks)).chunks == chunks


@pytest.mark.parametrize("kind", ["wav16", "wav24", "wav32f", "flac"])
@pytest.mark.parametrize(("channels", "mask"), [(3, 0xB), (6, 0x60F), (8, 0x63F), (2, 0x600)])
def test_a_mix_names_the_speakers_of_its_take(tmp_path, kind, channels, mask):
    assert probe(mixed(tmp_path, kind, channels, mask)).speakers == mask


@pytest.mark.parametrize(
    ("channels", "mask"), [(1, 0x4), (2, 0x3), (3, 0xB), (3, 0x7), (4, 0x33), (5, 0x37), (6, 0x3F)]
)
def test_an_m4a_has_the_speakers_that_aac_can_name_in_their_order(tmp_path, channels, mask):
    path = mixed(tmp_path, "m4a", channels, mask)
    assert probe(path).speakers == mask
    found = [pitch(channel, 48_000) for channel in read_audio(path).numpy()]
    expected = [pitch(channel, 48_000) for channel in tones(channels, 0.25).T]
    is_lfe = [mask == 0xB and index == 2 for index in range(channels)]  # has no highs in AAC
    assert all(
        abs(a - b) < 10 for a, b, low in zip(found, expected, is_lfe, strict=True) if not low
    )


@pytest.mark.parametrize(("kind", "channels"), [("m4a", 7), ("m4a", 8), ("mp3", 3)])
def test_more_channels_than_a_format_holds_are_refused_in_a_sentence(tmp_path, kind, channels):
    with pytest.raises(InputError, match=f"cannot hold {channels} channels; take WAV or FLAC"):
        mixed(tmp_path, kind, channels)
    assert not list(tmp_path.glob("*.m*"))
