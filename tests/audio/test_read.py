"""Laws of decoding: every format, native rate, the same samples in every pass, clear refusals."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from lily.audio.read import probe, read_audio, read_blocks
from lily.audio.resample import resample
from lily.errors import InputError

LOSSLESS = [
    ("WAV", "PCM_U8", 7),
    ("WAV", "PCM_16", 15),
    ("WAV", "PCM_24", 23),
    ("WAV", "FLOAT", 24),
]
LOSSLESS += [("FLAC", "PCM_16", 15), ("AIFF", "PCM_24", 23), ("W64", "PCM_16", 15)]


def noise(channels: int, length: int, seed: int = 0) -> np.ndarray:
    """Noise (length, channels) in (-1, 1), as soundfile wants it."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (length, channels))


def low_noise(channels: int, length: int) -> np.ndarray:
    """Noise below about 1 kHz, which lossy codecs keep."""
    smooth = np.hanning(64)[:, None] / 32
    flat = noise(channels, length + 63)
    return np.stack([np.convolve(c, smooth[:, 0], "valid") for c in flat.T], axis=1)


def joined(path: Path, block_frames: int = 1_000) -> torch.Tensor:
    return torch.cat(list(read_blocks(path, block_frames)), dim=-1)


def encode_av(
    path: Path, codec: str, sample_format: str, samples: np.ndarray, sample_rate: int = 44_100
) -> Path:
    """Encode 16-bit samples (length, channels) with FFmpeg."""
    channels = samples.shape[1]
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[channels]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        stream.codec_context.format = sample_format
        converter = av.AudioResampler(
            sample_format, layout, sample_rate, frame_size=stream.codec_context.frame_size or 1024
        )
        packed = np.rint(samples * 32_768).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        for piece in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("container", "subtype", "bits"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_files_give_their_samples(
    tmp_path: Path, container: str, subtype: str, bits: int, channels: int
) -> None:
    samples, path = noise(channels, 3_001), tmp_path / f"take.{container.lower()}"
    soundfile.write(path, samples, 192_000, subtype, format=container)
    info = probe(path)
    assert (info.sample_rate, info.channels, info.frames) == (192_000, channels, 3_001)
    assert info.seconds == 3_001 / 192_000
    decoded = joined(path)
    assert decoded.dtype == torch.float32 and decoded.shape == (channels, 3_001)
    assert np.abs(decoded.numpy().T - samples).max() <= 2.0**-bits


def test_peaks_above_full_scale_survive(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full((10, 1), 1.5), 48_000, "FLOAT")
    assert (joined(path) == 1.5).all()


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "channels"),
    [
        ("a.m4a", "alac", "s16p", 2),
        ("a.mka", "flac", "s16", 2),
        ("a.wv", "wavpack", "s16p", 1),
        ("a.tta", "tta", "s16", 6),
        ("b.mka", "pcm_s24le", "s32", 2),
        ("c.mka", "pcm_f64le", "dbl", 2),
    ],
)
def test_ffmpeg_reads_what_libsndfile_cannot_sample_for_sample(
    tmp_path: Path, name: str, codec: str, sample_format: str, channels: int
) -> None:
    samples = np.rint(noise(channels, 5_000) * 32_768) / 32_768
    path = encode_av(tmp_path / name, codec, sample_format, samples)
    assert (probe(path).sample_rate, probe(path).channels) == (44_100, channels)
    assert probe(path).frames is None and probe(path).seconds is None
    assert np.array_equal(joined(path).numpy().T, samples.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_the_delay_and_padding_of_aac_are_taken_out(tmp_path: Path, channels: int) -> None:
    samples = low_noise(channels, 20_001)
    decoded = joined(encode_av(tmp_path / "a.m4a", "aac", "fltp", samples))
    assert decoded.shape == (channels, 20_001)
    middle = slice(2_000, 18_000)
    error = decoded.numpy().T[middle, :2] - samples[middle, :2]
    assert np.square(error).mean() < 0.1 * np.square(samples[middle, :2]).mean()


def test_the_delay_of_opus_is_taken_out(tmp_path: Path) -> None:
    samples = low_noise(1, 20_001)
    path = encode_av(tmp_path / "a.webm", "libopus", "s16", samples, 48_000)
    decoded = joined(path).numpy().T
    assert decoded.shape == (20_001, 1)
    error = decoded[2_000:18_000] - samples[2_000:18_000]
    assert np.square(error).mean() < 0.1 * np.square(samples[2_000:18_000]).mean()


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a"])
def test_every_pass_and_every_block_size_give_the_same_samples(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("m4a"):
        encode_av(path, "aac", "fltp", low_noise(2, 9_000))
    else:
        soundfile.write(path, low_noise(2, 9_000), 44_100)
    whole = joined(path, 1 << 20)
    blocks = list(read_blocks(path, 700))
    assert all(block.shape == (2, 700) for block in blocks[:-1])
    assert torch.equal(torch.cat(blocks, dim=-1), whole)
    assert torch.equal(read_audio(path, 48_000), resample(whole, 44_100, 48_000))
    assert torch.equal(read_audio(path, 44_100), whole)


def write_bytes(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


def write_sound(name: str, samples: np.ndarray, rate: int = 48_000):
    return lambda folder: soundfile.write(folder / name, samples, rate, "FLOAT")


NOISE = np.random.default_rng(0).bytes(50_000)
NAN_AT = np.where(np.arange(48_000) == 30_000, np.nan, 0.1)[:, None]
REFUSED = [
    ("none.wav", lambda folder: None, "No such file"),
    ("folder", lambda folder: (folder / "folder").mkdir(), "is a folder"),
    ("empty.wav", write_bytes("empty.wav", b""), "is empty"),
    ("text.txt", write_bytes("text.txt", b"These are words.\n" * 200), "not audio"),
    ("text.wav", write_bytes("text.wav", b"These are words.\n" * 200), "not audio"),
    ("noise.wav", write_bytes("noise.wav", NOISE), "not audio"),
    ("noise.mp3", write_bytes("noise.mp3", NOISE), "not audio"),
    ("noise.raw", write_bytes("noise.raw", NOISE), "not audio"),
    ("zeros.wav", write_bytes("zeros.wav", bytes(50_000)), "not audio"),
    ("no.wav", write_sound("no.wav", np.zeros((0, 1))), "no samples"),
    ("nan.wav", write_sound("nan.wav", NAN_AT), "not a finite number at 0.625 s"),
    ("inf.wav", write_sound("inf.wav", NAN_AT * np.inf), "not a finite number at 0.000 s"),
    ("vast.wav", write_sound("vast.wav", np.full((9, 1), 1e20)), "too large to be sound at 0.000"),
    ("many.wav", write_sound("many.wav", np.zeros((9, 9))), "9 channels"),
    ("slow.wav", write_sound("slow.wav", np.zeros((9, 1)), 999), "999 Hz"),
    ("fast.wav", write_sound("fast.wav", np.zeros((9, 1)), 768_001), "768001 Hz"),
]


@pytest.mark.parametrize(("name", "make", "reason"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_is_no_recording_is_refused_with_a_reason(
    tmp_path: Path, name: str, make, reason: str
) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=reason) as caught:
        list(read_blocks(tmp_path / name))
    assert name in str(caught.value)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match="pipe"):
        probe(tmp_path / "pipe.wav")


def test_planes_beyond_eight_channels_are_never_touched(tmp_path: Path) -> None:
    path = encode_av(tmp_path / "wide.m4a", "aac", "fltp", low_noise(16, 3_000))
    with pytest.raises(InputError, match="16 channels"):
        probe(path)  # PyAV 18 miscounts them, and reading them ends the process


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.aac", "a.mka"])
def test_a_cut_file_gives_its_beginning(tmp_path: Path, name: str) -> None:
    path, samples = tmp_path / name, low_noise(1, 60_000)
    if name.endswith(("aac", "mka")):
        codec = "aac" if name.endswith("aac") else "flac"
        encode_av(path, codec, "fltp" if codec == "aac" else "s16", samples)
    else:
        soundfile.write(path, samples, 44_100)
    data = path.read_bytes()
    whole = joined(path)
    path.write_bytes(data[: len(data) * 6 // 10])
    cut = joined(path)
    assert 15_000 < cut.shape[-1] < 50_000
    assert torch.equal(cut[:, :14_000], whole[:, :14_000])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.m4a"])
def test_damaged_bytes_are_decoded_or_refused_but_nothing_else(tmp_path: Path, name: str) -> None:
    path, samples, random = tmp_path / name, low_noise(1, 6_000), np.random.default_rng(1)
    if name.endswith("m4a"):
        encode_av(path, "aac", "fltp", samples)
    else:
        soundfile.write(path, samples, 44_100)
    data = path.read_bytes()
    for trial in range(12):
        damaged = bytearray(data)
        for _ in range(20):
            damaged[random.integers(len(data) if trial % 2 else 200)] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            decoded = joined(path)
        except InputError:
            continue
        assert decoded.isfinite().all() and decoded.numel()
