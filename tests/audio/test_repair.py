"""Laws of headers with a wrong size: every sample is read, and what is no sample is not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from made import decode, sweep, written

from lily.audio.repair import Patched, repaired
from lily.errors import InputError

RATE, LENGTH = 8_000, 16_000
SAMPLES = sweep(2, RATE)
# container: where its fields are, after which letters, and how they are packed
FIELDS = {
    "WAV": {"data": (b"data", 4, "<I"), "whole": (b"RIFF", 4, "<I")},
    "RF64": {
        "data": (b"ds64", 16, "<Q"),
        "whole": (b"ds64", 8, "<Q"),
        "frames": (b"ds64", 24, "<Q"),
    },
    "AIFF": {
        "data": (b"SSND", 4, ">I"),
        "frames": (b"COMM", 10, ">I"),
        "whole": (b"FORM", 4, ">I"),
    },
    "AU": {"data": (b".snd", 8, ">I")},
    "CAF": {"data": (b"data", 4, ">Q")},
    "W64": {"data": (b"data", 16, "<Q")},
}
NONE, UNKNOWN = 0, -1
CASES = [
    ("WAV", {"data": NONE}),
    ("WAV", {"data": NONE, "whole": NONE}),
    ("WAV", {"data": UNKNOWN, "whole": UNKNOWN}),
    ("WAV", {"data": 8_000}),  # brought up to date now and then, until the power failed
    ("WAV", {"data": 8_000, "whole": 8_036}),
    ("WAV", {"whole": NONE}),
    ("RF64", {"data": NONE, "whole": NONE, "frames": NONE}),
    ("RF64", {"data": 8_000}),
    ("RF64", {"frames": NONE}),
    ("AIFF", {"data": NONE, "frames": NONE, "whole": NONE}),
    ("AIFF", {"frames": 4_000}),
    ("AIFF", {"data": 8_000, "frames": 3_996}),
    ("AU", {"data": NONE}),
    ("AU", {"data": UNKNOWN}),
    ("AU", {"data": 8_000}),
    ("CAF", {"data": UNKNOWN}),
    ("CAF", {"data": NONE}),
    ("CAF", {"data": 8_004}),
    ("W64", {"data": NONE}),
    ("W64", {"data": 8_024}),
]


class Counted(io.BytesIO):
    """A file that may be read so many times."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._left = most

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        assert self._left >= 0, "read again and again"
        return super().read(size)


def with_sizes(
    form: str, sizes: dict[str, int], subtype: str = "PCM_16", samples: np.ndarray = SAMPLES
) -> bytes:
    data = bytearray(written(samples, RATE, form, subtype))
    for field, size in sizes.items():
        letters, offset, kind = FIELDS[form][field]
        place = data.index(letters) + offset
        width = struct.calcsize(kind)
        data[place : place + width] = (size % 256**width).to_bytes(
            width, "little" if kind[0] == "<" else "big"
        )
    return bytes(data)


@pytest.mark.parametrize(("form", "sizes"), CASES, ids=lambda value: str(value))
def test_every_sample_is_read_whatever_the_header_says(tmp_path, form, sizes):
    name = f"crashed.{form.lower()}"
    decoded, rate, warnings = decode(tmp_path, name, with_sizes(form, sizes))
    assert rate == RATE and decoded.shape == (LENGTH, 1)
    assert np.abs(decoded - SAMPLES).max() < 2**-15
    for warning in warnings:
        assert "header" in warning.text
    if form in ("WAV", "RF64", "AU") and sizes.get("data", UNKNOWN) != UNKNOWN:
        assert len(warnings) == 1


@pytest.mark.parametrize("form", ["WAV", "RF64", "AIFF", "CAF"])
@pytest.mark.parametrize("stated", [0, 8_000])
def test_silence_where_the_stated_samples_end_is_no_padding(tmp_path, form, stated):
    samples = SAMPLES.copy()
    samples[stated // 2 : stated // 2 + 4_000] = 0
    sizes = {"data": stated} | ({"frames": stated // 2} if form in ("RF64", "AIFF") else {})
    data = with_sizes(form, sizes, samples=samples)
    decoded, _, (warning,) = decode(tmp_path, f"a.{form.lower()}", data)
    assert decoded.shape == samples.shape and np.abs(decoded - samples).max() < 2**-15
    assert f"{stated:,} bytes" in warning.text


def test_a_chunk_of_negative_size_ends_the_search():
    data = b"caff" + struct.pack(">HH4sq", 1, 0, b"free", -12) + bytes(100)
    file = Counted(data, most=100)
    assert repaired(file) == (file, [])


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_every_encoding_of_a_wav_is_read_to_its_end(tmp_path, subtype):
    decoded, _, (warning,) = decode(tmp_path, "a.wav", with_sizes("WAV", {"data": 0}, subtype))
    assert LENGTH <= len(decoded) < LENGTH + 1_100, "whole blocks"
    assert "0 bytes" in warning.text
    error = decoded[:LENGTH, 0] - SAMPLES[:, 0]
    assert np.mean(error**2) < 0.2 * np.mean(SAMPLES**2)


LIST = {
    form: b"LIST" + struct.pack(kind, 5_000) + b"INFO" + bytes(4_996)
    for form, kind in (("WAV", "<I"), ("AIFF", ">I"))
}
ID3 = b"ID3\x04\0\0\0\0\x40\0" + b"\x55" * 8_192
AFTER = {
    "a chunk": b"",
    "a tag": ID3,
    "zeros of a disk": bytes(9_000),
    "a few bytes": b"\x7f\x11\x93" * 900,
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_what_follows_the_samples_and_is_none_is_left_out(tmp_path, form, after):
    data = written(SAMPLES, RATE, form, "PCM_16") + (AFTER[after] or LIST[form])
    decoded, _, warnings = decode(tmp_path, f"a.{form.lower()}", data)
    assert len(decoded) == LENGTH and not warnings


@pytest.mark.parametrize("form", ["WAV", "RF64", "AIFF", "AU"])
def test_a_cut_file_is_read_to_its_end_and_reported(tmp_path, form):
    data = written(SAMPLES, RATE, form, "PCM_16")
    decoded, _, (warning,) = decode(tmp_path, f"a.{form.lower()}", data[: len(data) - 12_000])
    assert abs(len(decoded) - 10_000) < 60
    assert "the end of the file is missing" in warning.text


def test_a_file_with_no_samples_is_still_refused(tmp_path):
    for data in (
        written(SAMPLES[:0], RATE, "WAV"),
        written(SAMPLES[:0], RATE, "WAV") + LIST["WAV"],
    ):
        with pytest.raises(InputError, match="no samples"):
            decode(tmp_path, "none.wav", data)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_patched_bytes_are_read_in_pieces_of_any_size(size):
    data = bytes(range(50))
    file = Patched(io.BytesIO(data), {5: b"abcd", 48: b"xyz"})
    expected = data[:5] + b"abcd" + data[9:48] + b"xy"
    pieces = list(iter(lambda: file.read(size), b""))
    assert b"".join(pieces) == expected
    file.seek(6)
    assert file.read(2) == b"bc" and file.tell() == 8


@pytest.mark.parametrize("size", [1 << 40, (1 << 63) - 20])
def test_a_chunk_that_ends_beyond_any_file_is_no_crash(tmp_path, size):
    data = written(SAMPLES, RATE, "CAF", "PCM_16")
    place = data.index(b"data")
    chunk = b"free" + struct.pack(">q", size)
    with pytest.raises(InputError):
        decode(tmp_path, "a.caf", data[:place] + chunk + data[place:])
