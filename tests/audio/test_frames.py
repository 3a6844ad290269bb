"""Laws of frames: channels have the order of their speakers, whatever codec and format they had."""

from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
from made import decode, encoded, pitch, tones

from lily.audio.frames import FrameReader, speaker_mask
from lily.audio.read import probe

MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
SIDES = (0x13F, 0x60F, 0x607, 0x603)  # the same with side speakers instead of back ones
CODECS = {
    "m4a": ("ipod", "aac", range(1, 7)),
    "aac": ("adts", "aac", range(1, 7)),
    "alac.m4a": ("ipod", "alac", (1, 2)),
    "flac.mka": ("matroska", "flac", range(1, 9)),
    "opus.mka": ("matroska", "libopus", range(1, 9)),
    "opus.webm": ("webm", "libopus", (1, 2, 6, 8)),
    "wv": ("wv", "wavpack", range(1, 9)),
    "ac3": ("ac3", "ac3", (1, 2, 3, 4, 5, 6)),
}
CASES = [(name, channels) for name, (*_, counts) in CODECS.items() for channels in counts]


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_channels_of_every_codec_have_the_order_of_their_speakers(tmp_path, name, channels):
    form, codec, _ = CODECS[name]
    samples = tones(channels)
    family = {"mapping_family": "1"} if codec == "libopus" and channels > 2 else None
    data = encoded(samples, 48_000, form, codec, codec_options=family)
    decoded, rate, _ = decode(tmp_path, f"a.{name}", data)
    found = [pitch(channel, rate) for channel in decoded.T]
    assert found == pytest.approx([pitch(channel, 48_000) for channel in samples.T], abs=5)
    assert probe(tmp_path / f"a.{name}").speakers in (MASKS[channels], *SIDES)


def frame_of(layout: str, rate: int) -> SimpleNamespace:
    """A decoded frame of a tone a speaker, 300 Hz + 100 x its bit, its channels in any order.

    PyAV itself makes none in an order of its own.
    """
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    bits = [int(speaker_mask(av.AudioLayout(name))).bit_length() - 1 for name in channels]
    time = np.arange(rate // 2) / rate
    planes = [np.sin(2 * np.pi * (300 + 100 * bit) * time).astype("f4").tobytes() for bit in bits]
    form = av.AudioFormat("fltp")
    described = {"layout": av.AudioLayout(layout), "format": form, "sample_rate": rate}
    return SimpleNamespace(planes=planes, samples=len(time), **described)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("FC+FL+FR", "FC+FL+FR"),
        ("FL+FR+LFE+FC", "FL+FR+LFE+FC"),
        ("FC+FL+FR", "3.0"),
        ("3.0", "FC+FL+FR"),
        ("FR+FL", "stereo"),
        ("FC+FL+FR+BL+BR+LFE", "5.1"),
        ("5.1", "5.1"),
    ],
)
def test_channels_keep_their_speakers_where_order_and_rate_change(first, later):
    frames = [frame_of(first, 48_000), frame_of(later, 44_100)]
    reader, pieces = FrameReader("a.mka", frames[0], 48_000), []
    for frame in frames:
        pieces += reader.read(frame, frame.sample_rate, frame.samples, 0.0)
    pieces += reader.flush()
    mask = reader.speakers
    assert mask == speaker_mask(av.AudioLayout(first))
    wanted = [300 + 100 * bit for bit in range(18) if mask >> bit & 1]
    long = [p for p in pieces if isinstance(p, np.ndarray) and p.shape[1] > 10_000]
    assert len(long) >= 2
    for piece in long:
        assert [pitch(channel, 48_000) for channel in piece] == pytest.approx(wanted, abs=5)
