"""Laws of what an output keeps of its file besides the samples: speakers, tags, cover, chunks."""

from __future__ import annotations

import struct

import pytest
import torch
from test_engine import band_limited, engine  # noqa: F401, a fixture

from lily.audio.read import probe, read_tags
from lily.audio.tags import Tags
from lily.audio.write import AudioWriter

PNG = b"\x89PNG\r\n\x1a\n" + bytes(500)
BEXT = b"Side A".ljust(338, b"\0") + struct.pack("<Q", 32_000 * 60) + bytes(256)


@pytest.mark.parametrize("form", ["wav", "flac"])
@pytest.mark.parametrize("cutoff", [4_000.0, None])
def test_speakers_and_tags_of_the_recording_are_kept(engine, tmp_path, form, cutoff):  # noqa: F811
    samples = band_limited(0.7, 4_000.0, channels=3)
    if cutoff is None:  # a full band is copied
        samples = 0.1 * torch.randn(3, 30_000, generator=torch.Generator().manual_seed(0))
    tags = Tags({"title": "Take five", "comment": "mine", "mood": "blue"}, ((b"bext", BEXT),), PNG)
    path = tmp_path / "a.wav"
    with AudioWriter(path, 32_000, 3, frames=samples.shape[1], speakers=0xB, tags=tags) as writer:
        writer.write(samples / 20)
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1, format=form)
    assert probe(result.output).speakers == 0xB
    kept = read_tags(result.output)
    assert (kept.text["title"], kept.text["mood"], kept.cover) == ("Take five", "blue", PNG)
    assert kept.text["comment"].startswith("mine; ") and "Lily" in kept.text["comment"]
    assert int(kept.text["time_reference"]) == 48_000 * 60  # the same time of day
    assert [name for name, _ in kept.chunks] == ([b"bext"] if form == "wav" else [])


@pytest.mark.parametrize(("channels", "mask"), [(2, 0x3), (2, 0x600), (4, 0x107), (6, 0x60F)])
def test_a_comparison_keeps_the_speakers_in_all_its_files(engine, tmp_path, channels, mask):  # noqa: F811
    path = tmp_path / "a.wav"
    with AudioWriter(path, 48_000, channels, frames=30_000, speakers=mask) as writer:
        writer.write(band_limited(0.6, 4_000.0, channels)[:, :28_000] / 20)
    list(engine.compare(path, tmp_path / "o", stems=True))
    for name in ("off", "on", "diff", "input", "low"):
        found = probe(tmp_path / "o" / f"a.{name}.wav").speakers
        assert found == mask or (mask == 0x3 and found is None)
