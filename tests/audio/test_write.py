"""Laws of writing: whole or not at all, rounded to nearest, float only where 24 bits would clip."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lily.audio import write as wav
from lily.audio.flac import FlacFile
from lily.audio.read import AudioWriter, read_audio
from lily.audio.tags import read_comment
from lily.errors import InputError, LilyError


def noise(channels: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.rand(channels, length, generator=generator) * 1.9 - 0.95


def write(path: Path, x: torch.Tensor, block: int = 1_000, rate: int = 48_000) -> AudioWriter:
    with AudioWriter(path, rate, x.shape[0]) as writer:
        for piece in x.split(block, dim=-1):
            writer.write(piece)
    return writer


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
    assert torch.equal(read_audio(path), (x * 2**23).round() / 2**23)
    assert path.stat().st_size % 2 == 0


def test_float_only_where_24_bits_would_clip_and_nothing_is_lost(tmp_path: Path) -> None:
    x = (noise(2, 5_000) * 2**23).round() / 2**23
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
    with AudioWriter(path, 48_000, 1) as writer:
        writer.write(noise(1, 100))
        assert not path.exists()
    assert [item.name for item in tmp_path.iterdir()] == ["out.wav"]


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), AudioWriter(path, 48_000, 1) as writer:
        writer.write(torch.full((1, 10), 2.0))  # a switch to float has its own file
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["out.wav"]


def test_nothing_written_is_a_valid_empty_file(tmp_path: Path) -> None:
    write(tmp_path / "out.wav", torch.zeros(2, 0))
    assert soundfile.info(tmp_path / "out.wav").frames == 0


@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_past_the_limit_of_riff_the_header_becomes_rf64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float
) -> None:
    x = noise(2, 3_000)
    x[0, 0] = peak
    monkeypatch.setattr(wav, "LARGEST_RIFF", 10_000)
    write(tmp_path / "out.wav", x)
    head = (tmp_path / "out.wav").read_bytes()
    assert head[:4] == b"RF64" and head[12:16] == b"ds64"
    assert int.from_bytes(head[28:36], "little") == 3_000 * 2 * (3 if peak < 1 else 4)
    assert int.from_bytes(head[36:44], "little") == 3_000


def test_rf64_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1, 3_001)
    monkeypatch.setattr(wav, "LARGEST_RIFF", 5_000)
    write(tmp_path / "out.wav", x)
    assert soundfile.info(tmp_path / "out.wav").format == "RF64"
    assert torch.equal(read_audio(tmp_path / "out.wav"), (x * 2**23).round() / 2**23)


def test_impossible_files_and_samples_are_refused(tmp_path: Path) -> None:
    for rate, channels in ((0, 1), (48_000, 0), (48_000, 9)):
        with pytest.raises(InputError):
            AudioWriter(tmp_path / "out.wav", rate, channels)
    with pytest.raises(InputError, match="folder that exists"):
        AudioWriter(tmp_path / "none" / "out.wav", 48_000, 1)
    with AudioWriter(tmp_path / "out.wav", 48_000, 2) as writer:
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
    x = (noise(2, before + 1_000) * 2**23).round() / 2**23
    x[1, before] = 1.5
    writer = write(tmp_path / "a.flac", x, block=65_536)
    assert writer.path == tmp_path / "a.wav" and writer.subtype == "FLOAT"
    assert [item.name for item in tmp_path.iterdir()] == ["a.wav"]
    assert torch.equal(read_audio(tmp_path / "a.wav"), x)


def test_the_hash_and_the_returned_blocks_are_those_of_the_file(tmp_path: Path) -> None:
    for peak in (0.5, 1.5):  # 24-bit, and float from the second block on
        x = noise(2, 3_000)
        x[0, 0], x[0, 2_000] = -1e-9, peak  # rounds to minus zero, which an integer has not
        with AudioWriter(tmp_path / f"{peak}.wav", 48_000, 2) as writer:
            stored = torch.cat([writer.write(block) for block in x.split(1_000, -1)], -1)
        read = read_audio(writer.path)
        assert torch.equal(stored, read)
        assert writer.sha256 == hashlib.sha256(read.T.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("length", [1, 3_001])
def test_a_comment_is_read_back_and_leaves_the_samples_alone(
    tmp_path: Path, name: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(1, length)
    for limit in (wav.LARGEST_RIFF, 4_000):  # RIFF and RF64
        monkeypatch.setattr(wav, "LARGEST_RIFF", limit)
        with AudioWriter(tmp_path / name, 48_000, 1) as writer:
            writer.write(x)
            writer.comment = '{"lily": "certificate/1", "odd": 1}'
        assert read_comment(tmp_path / name) == writer.comment
        assert torch.equal(read_audio(tmp_path / name), (x * 2**23).round() / 2**23)


def test_a_file_beyond_four_gigabytes_is_rf64_and_read_back(tmp_path: Path) -> None:
    """The real limit, on a file with a hole: 4.5 GB that take a few MB of disk."""
    x = noise(2, 1_000)
    path, frames = tmp_path / "long.wav", 750_000_000
    with AudioWriter(path, 48_000, 2) as writer:
        writer.write(x)
        writer._raw.seek(6 * (frames - 2_000), 1)  # zeros nobody wrote
        writer._file._frames += frames - 2_000
        writer.write(x)
        writer.comment = "after the samples"
    assert path.stat().st_size > 1 << 32
    info = soundfile.info(path)
    assert (info.format, info.frames) == ("RF64", frames)
    assert read_comment(path) == "after the samples"
    with soundfile.SoundFile(path) as file:
        for start in (0, frames - 1_000):
            file.seek(start)
            read = torch.from_numpy(file.read(1_000, dtype="float32").T)
            assert torch.equal(read, (x * 2**23).round() / 2**23)


@pytest.mark.slow
def test_a_flac_of_more_than_four_gigabytes_of_samples_is_read_back(tmp_path: Path) -> None:
    """Eight channels, an hour of them, which FLAC keeps in 180 MB."""
    path, blocks, frames = tmp_path / "long.flac", 172, 1 << 20
    block = np.zeros((frames, 8), np.float32)
    block[::1000] = 0.25
    assert blocks * block.size * 3 > 1 << 32
    with path.open("x+b") as file:
        flac = FlacFile(file, 48_000, 8)
        for _ in range(blocks):
            flac.append(block)
        flac.finish("before the samples")
    info = soundfile.info(path)
    assert (info.frames, info.subtype) == (blocks * frames, "PCM_24")
    assert read_comment(path) == "before the samples"
    with soundfile.SoundFile(path) as file:
        file.seek((blocks - 1) * frames)
        assert (file.read(dtype="float32") == block).all()
