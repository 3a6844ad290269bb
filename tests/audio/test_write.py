"""Laws of writing: complete or absent, rounded to nearest, float only where 24 bits would clip."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from lily.audio import write as module
from lily.audio.read import probe, read_audio
from lily.audio.riff import chunks
from lily.audio.sandbox import read_tags
from lily.audio.tags import Tags
from lily.audio.temp_files import FileGroup
from lily.audio.write import AudioWriter, write_audio
from lily.errors import InputError, LilyError


def noise(channels: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.rand(channels, length, generator=generator) * 1.9 - 0.95


def write(path: Path, x: torch.Tensor, block: int = 1_000, **more) -> AudioWriter:
    with AudioWriter(path, 48_000, x.shape[0], frames=x.shape[1], **more) as writer:
        for piece in x.split(block, dim=-1):
            writer.write(piece)
    return writer


def rounded(x: torch.Tensor) -> torch.Tensor:
    return (x * 2**23).round() / 2**23


def speakers(path: Path) -> int:
    """The mask in an extensible format chunk."""
    with path.open("rb") as file:
        place = next(chunk.start for chunk in chunks(file) if chunk.name == b"fmt ")
        file.seek(place + 20)
        return int.from_bytes(file.read(4), "little")


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("length", [1, 4_321])
def test_24_bits_round_to_nearest(tmp_path: Path, channels: int, length: int) -> None:
    x, path = noise(channels, length), tmp_path / "out.wav"
    writer = write(path, x)
    assert (writer.subtype, writer.frames) == ("PCM_24", length)
    assert writer.peak == float(x.abs().max())
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.frames) == (48_000, channels, length)
    assert info.subtype == "PCM_24"
    assert np.abs(soundfile.read(path, always_2d=True)[0].T - x.numpy()).max() <= 2.0**-24
    assert torch.equal(read_audio(path), rounded(x))
    assert path.stat().st_size % 2 == 0


def test_float_only_where_24_bits_would_clip_and_nothing_is_lost(tmp_path: Path) -> None:
    x = rounded(noise(2, 5_000))
    x[1, 3_210] = -1.25
    writer = write(tmp_path / "out.wav", x)
    assert (writer.subtype, writer.peak, writer.frames) == ("FLOAT", 1.25, 5_000)
    assert soundfile.info(tmp_path / "out.wav").subtype == "FLOAT"
    assert torch.equal(read_audio(tmp_path / "out.wav"), x)


@pytest.mark.parametrize(
    ("extreme", "subtype"),
    [(1 - 2.0**-23, "PCM_24"), (-1.0, "PCM_24"), (1.0, "FLOAT"), (-1 - 2.0**-22, "FLOAT")],
)
def test_full_scale_is_where_the_integers_end(tmp_path: Path, extreme: float, subtype: str) -> None:
    writer = write(tmp_path / "out.wav", torch.tensor([[0.0, extreme]]))
    assert writer.subtype == subtype
    assert float(read_audio(tmp_path / "out.wav")[0, 1]) == extreme


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with AudioWriter(path, 48_000, 1, frames=100) as writer:
        writer.write(noise(1, 100))
        assert not path.exists()
    assert [item.name for item in tmp_path.iterdir()] == ["out.wav"]


@pytest.mark.parametrize("name", ["out.wav", "out.flac"])
def test_an_exception_leaves_no_file(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(RuntimeError),
        AudioWriter(tmp_path / name, 48_000, 1, frames=10) as writer,
    ):
        writer.write(torch.full((1, 10), 2.0))  # the switch to float opens a second file
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", ["before", "during"])
def test_an_existing_file_is_never_overwritten(tmp_path: Path, when: str) -> None:
    path = tmp_path / "out.wav"
    if when == "before":
        path.write_bytes(b"old")
    with pytest.raises(InputError, match="out.wav exists already"), FileGroup() as files:
        first = AudioWriter(tmp_path / "first.wav", 48_000, 1, frames=10, files=files)
        writer = AudioWriter(path, 48_000, 1, frames=10, files=files)
        path.write_bytes(b"old")
        for each in (first, writer):
            each.write(noise(1, 10))
            each.close()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["out.wav"]


def test_fewer_frames_than_announced_are_a_valid_file_and_more_are_refused(tmp_path: Path) -> None:
    for name in ("out.wav", "out.flac"):
        x = noise(2, 3_000)
        with AudioWriter(tmp_path / name, 48_000, 2, frames=5_000) as writer:
            writer.write(x)
        assert torch.equal(read_audio(tmp_path / name), rounded(x))
    with pytest.raises(LilyError, match="announced with 100 frames and gets 101"):
        write(tmp_path / "more.wav", noise(1, 100)).write(noise(1, 1))


def test_nothing_written_is_a_valid_empty_wav(tmp_path: Path) -> None:
    write(tmp_path / "out.wav", torch.zeros(2, 0))
    assert soundfile.info(tmp_path / "out.wav").frames == 0
    with pytest.raises(LilyError, match="out.flac has no samples"):
        write(tmp_path / "out.flac", torch.zeros(2, 0))
    assert [item.name for item in tmp_path.iterdir()] == ["out.wav"]


@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_more_samples_than_riff_can_count_become_rf64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float
) -> None:
    x, size = noise(2, 3_001), 3 if peak < 1 else 4
    x = rounded(x)
    x[0, 0] = peak
    for limit, container in ((3_001 * 2 * size, b"RIFF"), (3_001 * 2 * size - 1, b"RF64")):
        monkeypatch.setattr(module, "LARGEST_RIFF", limit)
        path = tmp_path / f"{limit}.wav"
        write(path, x)
        head = path.read_bytes()
        assert head[:4] == container
        assert torch.equal(read_audio(path), x)
    assert head[12:16] == b"ds64"
    assert int.from_bytes(head[28:36], "little") == 3_001 * 2 * size
    assert int.from_bytes(head[36:44], "little") == 3_001


def test_a_file_beyond_four_gigabytes_is_rf64_and_read_back(tmp_path: Path) -> None:
    """The real limit, on a file with a hole: 4.5 GB that take a few KB of disk."""
    x = noise(2, 1_000)
    path, frames = tmp_path / "long.wav", 750_000_000
    tags = Tags({"comment": "after the samples"})
    with AudioWriter(path, 48_000, 2, frames=frames, tags=tags) as writer:
        writer.write(x)
        writer.frames = writer._sound.seek(frames - 1_000)  # zeros that nobody wrote
        writer.write(x)
    assert path.stat().st_size > 1 << 32
    info = soundfile.info(path)
    assert (info.format, info.frames) == ("RF64", frames)
    with path.open("rb") as file:
        (last,) = (chunk for chunk in chunks(file) if chunk.name == b"LIST")
        file.seek(last.start)
        assert b"after the samples" in file.read(last.size)
    with soundfile.SoundFile(path) as file:
        for start in (0, frames - 1_000):
            file.seek(start)
            read = torch.from_numpy(file.read(1_000, dtype="float32").T)
            assert torch.equal(read, rounded(x))


def test_impossible_files_and_samples_are_refused(tmp_path: Path) -> None:
    for rate, channels in ((0, 1), (48_000, 0), (48_000, 9)):
        with pytest.raises(InputError):
            AudioWriter(tmp_path / "out.wav", rate, channels, frames=1)
    with pytest.raises(InputError, match="folder that exists"):
        AudioWriter(tmp_path / "none" / "out.wav", 48_000, 1, frames=1)
    with AudioWriter(tmp_path / "out.wav", 48_000, 2, frames=5) as writer:
        with pytest.raises(InputError):
            writer.write(torch.zeros(1, 5))
        with pytest.raises(LilyError, match="not numbers"):
            writer.write(torch.full((2, 5), torch.nan))


def test_a_flac_holds_the_same_samples_as_the_wav(tmp_path: Path) -> None:
    x = noise(2, 70_001)
    wav_writer, flac_writer = write(tmp_path / "a.wav", x), write(tmp_path / "a.flac", x)
    assert flac_writer.subtype == "PCM_24" and flac_writer.sha256 == wav_writer.sha256
    info = soundfile.info(tmp_path / "a.flac")
    assert (info.format, info.subtype, info.frames) == ("FLAC", "PCM_24", 70_001)
    assert torch.equal(read_audio(tmp_path / "a.flac"), read_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("before", [0, 200_000])
def test_what_a_flac_would_clip_becomes_a_float_wav_and_nothing_is_lost(
    tmp_path: Path, before: int
) -> None:
    x = rounded(noise(2, before + 1_000))
    x[1, before] = 1.5
    writer = write(tmp_path / "a.flac", x, block=65_536)
    assert writer.path == tmp_path / "a.wav" and writer.subtype == "FLOAT"
    assert [item.name for item in tmp_path.iterdir()] == ["a.wav"]
    assert torch.equal(read_audio(tmp_path / "a.wav"), x)


def test_the_hash_and_the_returned_blocks_are_those_of_the_file(tmp_path: Path) -> None:
    for peak in (0.5, 1.5):  # 24-bit, and float from the second block on
        x = noise(2, 3_000)
        x[0, 0], x[0, 2_000] = -1e-9, peak  # rounds to minus zero, which an integer has not
        with AudioWriter(tmp_path / f"{peak}.wav", 48_000, 2, frames=3_000) as writer:
            stored = torch.cat([writer.write(block) for block in x.split(1_000, -1)], -1)
        read = read_audio(writer.path)
        assert torch.equal(stored, read)
        assert writer.sha256 == hashlib.sha256(read.T.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, peak: float) -> None:
    x = noise(2, 500) * peak
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, x)
        data = (tmp_path / name).read_bytes()
        place = data.find(b"PEAK")
        assert place < 0 or data[place + 12 : place + 16] == bytes(4), "libsndfile writes the time"
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("channels", [3, 5, 6, 7, 8])
@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_many_channels_name_the_usual_speakers(tmp_path: Path, channels: int, peak: float) -> None:
    write(tmp_path / "out.wav", noise(channels, 100) * peak)
    assert speakers(tmp_path / "out.wav") == module.SPEAKERS[channels]
    assert bin(module.SPEAKERS[channels]).count("1") == channels


@pytest.mark.parametrize(("channels", "mask"), [(3, 0xB), (6, 0x60F), (2, 0x600), (4, 0)])
@pytest.mark.parametrize("limit", [module.LARGEST_RIFF, 1_000])
def test_other_speakers_are_kept(tmp_path: Path, channels: int, mask: int, limit: int, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_RIFF", limit)  # as RIFF and as RF64
    x = noise(channels, 400)
    write(tmp_path / "out.wav", x, speakers=mask)
    assert speakers(tmp_path / "out.wav") == mask
    assert torch.equal(read_audio(tmp_path / "out.wav"), rounded(x))


TEXT = {"title": "Für Elise", "artist": "L. v. B.", "comment": '{"lily": 1}'}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9


@pytest.mark.parametrize("length", [1, 3_001])
def test_tags_of_a_wav_are_read_back_and_leave_the_samples_alone(tmp_path: Path, length) -> None:
    x = noise(1, length)
    write(tmp_path / "a.wav", x, tags=Tags(TEXT))
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert file.copy_metadata() == TEXT
    assert b"id3 " not in (tmp_path / "a.wav").read_bytes()
    assert torch.equal(read_audio(tmp_path / "a.wav"), rounded(x))


def test_chunks_of_a_wav_follow_its_samples(tmp_path: Path) -> None:
    kept = ((b"bext", b"odd"), (b"iXML", b"<BWFXML/>"))
    x = noise(2, 777)
    write(tmp_path / "a.wav", x, tags=Tags(TEXT, kept))
    data = (tmp_path / "a.wav").read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with (tmp_path / "a.wav").open("rb") as file:
        found = [(name, data[start : start + size]) for name, start, size in chunks(file)]
    assert found[-2:] == list(kept)
    assert torch.equal(read_audio(tmp_path / "a.wav"), rounded(x))


@pytest.mark.parametrize("form", ["wav", "flac"])
@pytest.mark.parametrize("cover", [b"", PNG])
def test_every_tag_and_the_cover_are_read_back(tmp_path: Path, form: str, cover: bytes) -> None:
    text = {**TEXT, "album": "Öl", "tracknumber": "3/12", "composer": "Ж", "mood": "日本"}
    x = noise(2, 70_001)
    write(tmp_path / f"a.{form}", x, tags=Tags(text, cover=cover))
    found = read_tags(tmp_path / f"a.{form}")
    assert (found.text, found.cover) == (text, cover)
    assert torch.equal(read_audio(tmp_path / f"a.{form}"), rounded(x))
    with av.open(str(tmp_path / f"a.{form}")) as container:  # and by FFmpeg without Lily
        assert {key.lower(): value for key, value in container.metadata.items()}["mood"] == "日本"


@pytest.mark.parametrize(("channels", "mask"), [(3, 0xB), (6, 0x60F), (6, 0x3F), (7, 0x13F)])
def test_the_speakers_of_a_flac_are_kept(tmp_path: Path, channels: int, mask: int) -> None:
    write(tmp_path / "a.flac", noise(channels, 5_000), speakers=mask)
    assert probe(tmp_path / "a.flac").speakers == mask


FULL_DISK = """
import resource, signal, sys, torch
from lily.audio.write import AudioWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with AudioWriter(sys.argv[1], 48_000, 1, frames=20_000) as writer:
        for block in (torch.rand(1, 20_000, generator=torch.Generator()) - 0.5).split(1_000, -1):
            writer.write(block)
except OSError as error:
    print(error.errno)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("missing", [1, 5_000, 50_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, name: str, missing: int):
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    x = torch.rand(1, 20_000, generator=torch.Generator()) - 0.5
    write_audio(whole, x, 48_000)
    room = str(whole.stat().st_size - missing)
    folder = tmp_path / "full"
    folder.mkdir()
    command = [sys.executable, "-c", FULL_DISK, folder / name, room]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.ENOSPC), done.stderr
    assert not list(folder.iterdir())


def test_a_flac_stays_one_beyond_the_limit_of_riff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_RIFF", 1)
    x = rounded(noise(8, 3_001))
    write(tmp_path / "out.flac", x)
    info = soundfile.info(tmp_path / "out.flac")
    assert (info.format, info.subtype, info.frames) == ("FLAC", "PCM_24", 3_001)
    assert torch.equal(read_audio(tmp_path / "out.flac"), x)
