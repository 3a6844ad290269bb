"""Laws of libsndfile's formats: one pass, also where it cannot seek, and the speakers' names."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
from made import decode, encoded, sound, sweep, tones, written

from lily.audio.read import probe
from lily.errors import InputError

UNSEEKABLE = [
    ("WAV", "GSM610", 0.2), ("W64", "GSM610", 0.2), ("AIFF", "GSM610", 0.2),
    ("WAV", "G721_32", 0.02), ("AU", "G721_32", 0.02),
    ("AU", "G723_24", 0.05), ("AU", "G723_40", 0.01),
    ("WAV", "NMS_ADPCM_16", 0.1), ("WAV", "NMS_ADPCM_24", 0.05), ("WAV", "NMS_ADPCM_32", 0.02),
    ("XI", "DPCM_8", 0.05), ("XI", "DPCM_16", 0.001),
    ("AIFF", "DWVW_16", 1e-6), ("AIFF", "DWVW_24", 1e-6),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype", "error"), UNSEEKABLE)
def test_encodings_without_seeking_decode_to_their_end(tmp_path, form, subtype, error):
    samples = sweep(2, 8_000)
    decoded, _, warnings = decode(tmp_path, "call", written(samples, 8_000, form, subtype))
    assert 16_000 <= len(decoded) < 16_400 and not warnings, "whole blocks"
    difference = decoded[:16_000, 0] - samples[:, 0]
    assert np.mean(difference**2) < error * np.mean(samples**2)


def test_vox_has_no_header_and_is_read_by_its_ending(tmp_path):
    samples = sweep(1, 8_000)
    data = written(samples, 8_000, "RAW", "VOX_ADPCM")
    decoded, rate, _ = decode(tmp_path, "call.VOX", data)
    assert rate == 8_000 and len(decoded) == 8_000
    assert np.mean((decoded - samples) ** 2) < 0.02 * np.mean(samples**2)
    with pytest.raises(InputError, match="not audio"):
        decode(tmp_path, "call.raw", data)


RAW = {
    "a zip": b"PK\x03\x04" + np.random.default_rng(4).bytes(20_000),
    "noise": np.random.default_rng(5).bytes(20_000),
    "text": b"These are words.\n" * 1_000,
    "samples without a header": written(sweep(1), 44_100, "RAW", "PCM_16"),
}


@pytest.mark.parametrize("ending", ["snd", "au", "SND", "raw", "wav", "aiff", "voc", "ircam"])
@pytest.mark.parametrize("what", RAW)
def test_bytes_without_a_magic_number_are_refused(tmp_path, what, ending):
    with pytest.raises(InputError, match="not audio"):
        decode(tmp_path, f"file.{ending}", RAW[what])


def test_a_sun_au_is_read_under_either_ending(tmp_path):
    for name in ("a.snd", "a.au", "a"):
        data = written(sweep(1), 44_100, "AU", "PCM_16")
        assert len(decode(tmp_path, name, data)[0]) == 44_100


def extensible(mask: int, channels: int) -> bytes:
    data = bytearray(written(tones(channels, 0.1), 48_000, "WAVEX", "PCM_16"))
    place = data.index(b"fmt ") + 28
    data[place : place + 4] = struct.pack("<I", mask)
    return bytes(data)


@pytest.mark.parametrize(
    ("mask", "channels", "found"),
    [
        (0xB, 3, 0xB),  # 2.1
        (0x60F, 6, 0x60F),  # 5.1 with side speakers
        (0x107, 4, 0x107),  # 4.0
        (0x600, 2, 0x600),
        (0, 8, 0),  # eight tracks and no speakers
        (0x3, 6, None),  # names too few
    ],
)
def test_the_speakers_of_a_wav_are_known(tmp_path, mask, channels, found):
    path = tmp_path / "a.wav"
    path.write_bytes(extensible(mask, channels))
    assert probe(path).speakers == found


def test_a_wav_that_names_no_speakers_has_none(tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(6, 0.1), 48_000, format="WAV")
    assert probe(tmp_path / "a.wav").speakers is None


def test_the_speakers_of_other_containers_are_known(tmp_path):
    path = tmp_path / "a.w64"
    path.write_bytes(encoded(tones(6, 0.2), 48_000, "w64", "pcm_s16le"))
    assert probe(path).speakers == 0x3F


@pytest.mark.parametrize("more", [8, 400, 40_000])
def test_samples_after_the_stated_end_are_reported(tmp_path, more):
    data = written(sound(0.5), 44_100, "W64", "PCM_16")
    middle = len(data) // 4 * 2
    samples, _, warnings = decode(tmp_path, "a.w64", data[:middle] + bytes(more) + data[middle:])
    assert len(samples) == 22_050 or [w for w in warnings if "were read" in w.text]
