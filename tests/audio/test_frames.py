"""Laws of frames: channels have the order of their speakers, whatever codec and format they had."""

from __future__ import annotations

import pytest
from made import decode, encoded, pitch, tones

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
