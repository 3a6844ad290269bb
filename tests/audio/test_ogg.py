"""Laws of Ogg: every link of a chain is decoded, in the order and at the rate that it has."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from made import STORED, decode, encoded, pitch, sound, sweep, tones, written, zeroed

from lily.audio.ogg import FIRST, Slice, checksum, pages, parts
from lily.audio.read import probe
from lily.errors import InputError


def vorbis(samples, rate=44_100):
    return written(samples, rate, "OGG", "VORBIS")


def opus(samples, rate=48_000):
    return written(samples, rate, "OGG", "OPUS")


def flac(samples, rate=44_100):
    return encoded(samples, rate, "ogg", "flac")


@pytest.mark.parametrize("make", [vorbis, opus, flac])
@pytest.mark.parametrize("links", [1, 2, 5])
@pytest.mark.parametrize("seconds", [0.02, 0.7, 2.3])
def test_a_chain_has_the_samples_of_all_its_links(tmp_path, make, links, seconds):
    rate = 48_000 if make is opus else 44_100
    samples = sweep(seconds, rate)
    decoded, _, warnings = decode(tmp_path, "a.ogg", make(samples, rate) * links)
    assert len(decoded) == links * len(samples) and not warnings
    if seconds > 1:
        original = np.tile(samples, (links, 1))
        assert np.mean((decoded - original) ** 2) < 0.05 * np.mean(original**2)


def test_links_of_a_lower_rate_or_fewer_channels_are_converted_and_reported(tmp_path):
    data = vorbis(sweep(1, channels=2)) + vorbis(sweep(1, 22_050), 22_050)
    decoded, rate, (warning,) = decode(tmp_path, "a.ogg", data)
    assert rate == 44_100 and decoded.shape[1] == 2
    assert abs(len(decoded) - 88_200) <= 64
    assert "mono at 22050 Hz at 1.00 s" in warning.text and warning.start == 1.0
    second = decoded[44_100:, 0]
    assert abs(pitch(second[10_000:12_048], 44_100) - (300 + 2_700 * 11_024 / 44_100)) < 60


def test_links_that_would_lose_their_top_are_refused_with_the_place(tmp_path):
    data = vorbis(sweep(1, 22_050), 22_050) + vorbis(sweep(2))
    with pytest.raises(InputError, match=r"mono at 22050 Hz to mono at 44100 Hz at 1.00 s; cut"):
        decode(tmp_path, "a.ogg", data)


def test_garbage_between_links_is_skipped(tmp_path):
    samples = sweep(1)
    data = vorbis(samples) + b"\x00garbage OggS" * 50 + vorbis(samples)
    decoded, _, _ = decode(tmp_path, "a.ogg", data)
    assert len(decoded) == 88_200


@pytest.mark.parametrize("make", [vorbis, opus, flac])
@pytest.mark.parametrize("start", [0.3, 0.5, 0.7])
def test_a_damaged_page_is_silent_in_its_place(tmp_path, make, start):
    rate = 48_000 if make is opus else 44_100
    samples = sound(8, rate)
    whole, _, _ = decode(tmp_path, "whole.ogg", make(samples, rate))
    data = zeroed(make(samples, rate), start, 600)
    decoded, _, (warning,) = decode(tmp_path, "a.ogg", data)
    assert abs(len(decoded) - len(samples)) < 0.01 * len(samples)
    begin, end = round(warning.start * rate), round((warning.start + warning.seconds) * rate)
    assert abs(warning.start / 8 - start) < 0.2 and 0.1 < warning.seconds < 2.5
    assert not decoded[begin + 1 : end - 1].any()
    assert np.abs(decoded[: begin - 4_096] - whole[: begin - 4_096]).max() < 1e-6
    after = slice(end + 24_000, len(samples) - 4_096)
    assert np.abs(decoded[after] - whole[after]).max() < 0.01


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_channels_have_the_order_of_their_speakers(tmp_path, channels, subtype):
    samples = tones(channels)
    stored = samples[:, STORED.get(channels, range(channels))]
    decoded, _, _ = decode(tmp_path, "a.ogg", written(stored, 48_000, "OGG", subtype))
    assert len(decoded) == len(samples)
    expected = [pitch(column, 48_000) for column in samples.T]
    assert np.allclose([pitch(column, 48_000) for column in decoded.T], expected, atol=5)
    mask = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}[channels]
    assert probe(tmp_path / "a.ogg").speakers == mask


@pytest.mark.parametrize("channels", [3, 5, 6, 7, 8])
def test_opus_of_another_encoder_has_that_order_too(tmp_path, channels):
    samples, family = tones(channels), {"mapping_family": "1"}
    data = encoded(samples, 48_000, "ogg", "libopus", codec_options=family)
    decoded, _, _ = decode(tmp_path, "a.opus", data)
    expected = [pitch(column, 48_000) for column in samples.T]
    assert np.allclose([pitch(column, 48_000) for column in decoded.T], expected, atol=5)


@pytest.mark.parametrize("stated", [0, 8_000, 16_000, 44_100, 192_000])
def test_opus_is_decoded_at_48_khz_whatever_rate_its_header_mentions(tmp_path, stated):
    data = bytearray(opus(sweep(1, 48_000)))
    place = data.index(b"OpusHead")
    data[place + 12 : place + 16] = struct.pack("<I", stated)
    size = 27 + data[26] + sum(data[27 : 27 + data[26]])
    data[22:26] = struct.pack("<I", checksum(bytes(data[:size])))
    decoded, rate, _ = decode(tmp_path, "a.opus", bytes(data))
    assert rate == 48_000 and len(decoded) == 48_000
    assert abs(pitch(decoded[40_000:44_096, 0], 48_000) - (300 + 2_700 * 42_048 / 48_000)) < 20


def test_pages_are_found_again_after_damage():
    data = vorbis(sound(5))
    whole = list(pages(io.BytesIO(data)))
    assert whole[0].flags & FIRST and whole[0].start == 0 and len(whole) > 4
    cut = whole[3]
    damaged = bytearray(data)
    damaged[cut.start : cut.start + 4] = b"Xggs"
    assert [page for page in whole if page != cut] == list(pages(io.BytesIO(bytes(damaged))))
    assert len(list(parts(io.BytesIO(data)))) == 1
    first, second = parts(io.BytesIO(data + data))
    assert first.read() == second.read() == data


def test_a_slice_is_a_file():
    part = Slice(io.BytesIO(b"0123456789"), 3, 8)
    assert (part.read(2), part.tell(), part.read(), part.read(1)) == (b"34", 2, b"567", b"")
    assert (part.seek(-2, 2), part.read(9)) == (3, b"67")
    assert (part.seek(1), part.seek(1, 1), part.read(1)) == (1, 2, b"5")


@pytest.mark.parametrize("make", [vorbis, opus, flac])
@pytest.mark.parametrize("damage", ["a bit", "the magic number", "cut"])
def test_a_damaged_last_page_is_reported(tmp_path, make, damage):
    whole = make(sound(3, 48_000), 48_000)
    assert not decode(tmp_path, "a.ogg", whole)[2]
    data, (*_, last) = bytearray(whole), pages(io.BytesIO(whole))
    if damage == "cut":
        del data[-20:]
    else:
        data[last.start + (60 if damage == "a bit" else 0)] ^= 9
    decoded, _, warnings = decode(tmp_path, "a.ogg", bytes(data))
    assert warnings and "its end is missing" in warnings[-1].text
    assert 1.9 * 48_000 < len(decoded) <= 3 * 48_000


@pytest.mark.parametrize("make", [vorbis, opus])
def test_a_stream_that_was_never_finished_and_tags_after_one_are_no_damage(tmp_path, make):
    whole = make(sound(3, 48_000), 48_000)
    *_, last = pages(io.BytesIO(whole))
    assert not decode(tmp_path, "a.ogg", whole[: last.start])[2]
    assert not decode(tmp_path, "a.ogg", whole + b"TAG" + bytes(125))[2]
