"""Laws of FFmpeg's formats: nothing is lost, damage is silent, and no other file is opened."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from made import decode, encoded, mp3, sound, sweep, written, zeroed

from lily.audio import decoder, ffmpeg
from lily.audio.read import probe, read_audio
from lily.errors import InputError

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
LISTS = {
    "list.ffconcat": "ffconcat version 1.0\nfile target.wav\n",
    "renamed.wav": "ffconcat version 1.0\nfile target.wav\n",
    "list.m3u8": PLAYLIST.format("target.ts"),
}
MORE_FORMATS, MORE_PROTOCOLS = ",hls,concat", "file,http,tcp,crypto,data"


def decoded_frames(path: Path) -> int:
    """How many frames decode in this process, without the other guards of a child."""
    with path.open("rb") as file:
        _info, *pieces = decoder.decode(file, path.name)
    return sum(piece.shape[-1] for piece in pieces)


@pytest.fixture
def targets(tmp_path, monkeypatch) -> Path:
    """A folder with real recordings, which is the current one: lists name them relatively."""
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    soundfile.write("target.wav", samples, 48_000)
    with av.open("target.ts", "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 47_104, 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_files_is_refused_by_each_lock_alone(targets, monkeypatch, name):
    path = targets / name
    path.write_text(LISTS[name])
    formats, protocols = ffmpeg.CONTAINERS, ffmpeg.PROTOCOLS
    with pytest.raises(InputError, match="not audio"):
        read_audio(path)
    monkeypatch.setattr(ffmpeg, "PROTOCOLS", MORE_PROTOCOLS)
    with pytest.raises(InputError, match="not audio"):
        decoded_frames(path)
    monkeypatch.setattr(ffmpeg, "CONTAINERS", formats + MORE_FORMATS)
    assert decoded_frames(path) >= 47_104, "the target is real: without locks it is opened"
    monkeypatch.setattr(ffmpeg, "PROTOCOLS", protocols)
    with pytest.raises(InputError, match="not audio"):
        decoded_frames(path)


def test_a_list_of_addresses_connects_nowhere(targets, monkeypatch):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = targets / "list.m3u8"
        path.write_text(PLAYLIST.format(f"http://127.0.0.1:{server.server_port}/target.ts"))
        with pytest.raises(InputError, match="not audio"):
            read_audio(path)
        assert not asked
        monkeypatch.setattr(ffmpeg, "PROTOCOLS", MORE_PROTOCOLS)
        monkeypatch.setattr(ffmpeg, "CONTAINERS", ffmpeg.CONTAINERS + MORE_FORMATS)
        assert decoded_frames(path) >= 47_104 and asked, "the address is real"
        server.shutdown()


# ---- lengths come from decoded samples -----------------------------------------------------------

SECONDS = 3
NEAR = 3_000  # samples: the delay of an encoder, which no header states any more


def xing(head: bytes, frames: int) -> bytes:
    """A header frame that states another number of frames."""
    place = max(head.find(b"Xing"), head.find(b"Info"))
    return head[: place + 8] + frames.to_bytes(4, "big") + head[place + 12 :]


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (48_000, 2), (22_050, 1)])
@pytest.mark.parametrize("stated", [None, 0, 20, 100_000])
def test_an_mp3_is_decoded_to_its_end_whatever_its_header_states(
    tmp_path, mode, rate, channels, stated
):
    samples = sound(SECONDS, rate, channels)
    head, frames = mp3(samples, rate, mode)
    data = frames if stated is None else xing(head, stated) + frames
    decoded, found, warnings = decode(tmp_path, "a.mp3", data)
    assert found == rate and decoded.shape[1] == channels
    assert -600 <= len(decoded) - len(samples) <= NEAR and not warnings


@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), "a picture"])
@pytest.mark.parametrize("count", [2, 3])
def test_joined_mp3s_are_all_decoded(tmp_path, between, count):
    if between == "a picture":
        size = 100_000
        tag = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        between = b"ID3\x04\0\0" + tag + np.random.default_rng(1).bytes(size)
    samples = sound(1.5)
    one = b"".join(mp3(samples, 44_100))
    decoded, _, _ = decode(tmp_path, "a.mp3", between.join([one] * count))
    assert -2_304 <= len(decoded) - count * len(samples) <= count * NEAR


def test_a_joined_mp3_of_a_lower_rate_is_converted(tmp_path):
    data = b"".join([*mp3(sound(1), 44_100), *mp3(sound(1, 22_050), 22_050)])
    decoded, rate, warnings = decode(tmp_path, "a.mp3", data)
    assert rate == 44_100 and abs(len(decoded) - 88_200) < 2 * NEAR
    assert any("changes to mono at 22050 Hz" in warning.text for warning in warnings)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 1.6, 4.0])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("stated", ["right", "unknown", "too few"])
def test_a_flac_has_every_sample_whatever_its_header_states(tmp_path, seconds, subtype, stated):
    samples = sweep(seconds, channels=2)
    data = bytearray(written(samples, 44_100, "FLAC", subtype))
    total = {"right": len(samples), "unknown": 0, "too few": 2_000}[stated]
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
    data[18:26] = packed.to_bytes(8, "big")
    decoded, _, warnings = decode(tmp_path, "a.flac", bytes(data))
    assert decoded.shape == samples.shape and not warnings
    assert np.abs(decoded - samples).max() < 2**-15
    assert probe(tmp_path / "a.flac").frames == (total or None)


@pytest.mark.parametrize("length", [1, 4_095, 4_096, 4_097, 48_000])
@pytest.mark.parametrize("form", ["caf", "ipod"])
def test_an_alac_has_every_sample(tmp_path, form, length):
    samples = sweep(1, 48_000, 2)[:length]
    data = encoded(samples, 48_000, form, "alac")
    decoded, _, warnings = decode(tmp_path, f"a.{form}", data)
    assert len(decoded) == length and not warnings
    assert np.abs(decoded - samples).max() < 2**-14


def test_a_cut_flac_is_reported(tmp_path):
    data = written(sound(4), 44_100, "FLAC", "PCM_16")
    decoded, _, warnings = decode(tmp_path, "a.flac", data[: len(data) // 2])
    assert 1.5 < len(decoded) / 44_100 < 2.5
    assert "states a length of 4.00 s" in warnings[-1].text


# ---- damage is silent, in its place and as long as it was ----------------------------------------


def raw(form: str, codec: str, rate: int = 48_000):
    return encoded(sound(6, rate, 2), rate, form, codec)


DAMAGED = {
    "mp3": (lambda: b"".join(mp3(sound(6, 48_000, 2), 48_000)), 0.06),
    "mp2": (lambda: raw("mp2", "mp2"), 0.06),
    "aac": (lambda: raw("adts", "aac"), 0.1),
    "ac3": (lambda: raw("ac3", "ac3"), 0.1),
    "eac3": (lambda: raw("eac3", "eac3"), 0.1),
    "flac": (lambda: written(sound(6, 48_000, 2), 48_000, "FLAC", "PCM_16"), 1e-3),
    "m4a": (lambda: raw("ipod", "aac"), 0.06),
    "alac.m4a": (lambda: raw("ipod", "alac"), 0.06),
    "mka": (lambda: raw("matroska", "flac"), 1e-3),
    "ts": (lambda: raw("mpegts", "mp2"), 0.1),
    "nut": (lambda: raw("nut", "pcm_s16le"), 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("share", [0.002, 0.05])
def test_a_damaged_span_is_silent_and_what_follows_is_in_its_place(tmp_path, name, share):
    make, tolerance = DAMAGED[name]
    data, rate = make(), 48_000
    whole, _, none = decode(tmp_path, f"whole.{name}", data)
    assert not none
    decoded, _, warnings = decode(
        tmp_path, f"a.{name}", zeroed(data, 0.5, round(share * len(data)))
    )
    assert abs(len(decoded) - len(whole)) / rate < max(tolerance, 0.01 * 6)
    assert warnings and all(0.3 < warning.start / 6 < 0.7 for warning in warnings)
    quiet = sum(warning.seconds for warning in warnings)
    assert 6 * share - 0.05 < quiet < 6 * share + 2.5, "a container loses whole pages"
    for warning in warnings:
        begin, end = (round(at * rate) for at in (warning.start, warning.start + warning.seconds))
        assert not decoded[begin + 1 : end - 1].any()
    assert np.allclose(decoded[:96_000], whole[:96_000], atol=1e-6)
    tail = whole[240_000:260_000, 0]
    match = np.correlate(decoded[230_000:270_000, 0], tail, "valid")
    assert abs(match.argmax() - 10_000) <= tolerance * rate


@pytest.mark.parametrize("trial", range(4))
def test_a_flac_frame_with_a_wrong_bit_is_silent_and_no_noise(tmp_path, trial):
    samples = sound(4)
    data = bytearray(written(samples, 44_100, "FLAC", "PCM_16"))
    place = len(data) // 2 + 1_000 * trial
    data[place] ^= 0x10
    decoded, _, (warning,) = decode(tmp_path, "a.flac", bytes(data))
    assert len(decoded) == len(samples) and warning.seconds == pytest.approx(
        4_096 / 44_100, rel=0.2
    )
    begin = round(warning.start * 44_100)
    same = np.r_[:begin, begin + round(warning.seconds * 44_100) : len(samples)]
    assert np.abs(decoded[same] - samples[same]).max() < 2**-15


def test_many_damaged_places_are_summed_up(tmp_path):
    data = bytearray(written(sound(20), 44_100, "FLAC", "PCM_16"))
    for place in range(20_000, len(data), 20_000):
        data[place] ^= 0xFF
    _, _, warnings = decode(tmp_path, "a.flac", bytes(data))
    assert len(warnings) == 21 and "more places are damaged or missing" in warnings[-1].text


# ---- time stamps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("webm", "libopus"),
        ("matroska", "aac"),
        ("matroska", "pcm_s16le"),
        ("nut", "aac"),
        ("mpegts", "aac"),
        ("flv", "aac"),
        ("asf", "wmav2"),
    ],
)
def test_a_gap_in_the_time_stamps_is_silent(tmp_path, form, codec):
    data = encoded(sound(4, 48_000), 48_000, form, codec, drop=(1.0, 2.5))
    decoded, rate, (warning,) = decode(tmp_path, f"a.{form}", data)
    assert abs(len(decoded) / rate - 4) < 0.06
    assert abs(warning.start - 1) < 0.1 and abs(warning.seconds - 1.5) < 0.1
    assert not decoded[int(1.1 * rate) : int(2.4 * rate)].any()
    assert decoded[int(2.7 * rate) :].std() > 0.1


@pytest.mark.parametrize(
    ("form", "codec"), [("matroska", "libopus"), ("mp4", "aac"), ("matroska", "flac")]
)
def test_a_late_start_is_silent(tmp_path, form, codec):
    data = encoded(sound(1, 48_000), 48_000, form, codec, delay=1.5)
    decoded, rate, (warning,) = decode(tmp_path, f"a.{form}", data)
    assert abs(len(decoded) / rate - 2.5) < 0.05
    assert warning.start == 0 and abs(warning.seconds - 1.5) < 0.05
    assert not decoded[: int(1.4 * rate)].any() and decoded[int(1.6 * rate) :].std() > 0.1


# ---- containers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "codec", "video"),
    [
        ("mxf", "pcm_s16le", True), ("nut", "pcm_s16le", False), ("nut", "pcm_s16le", True),
        ("wtv", "mp2", False), ("swf", "libmp3lame", False), ("adx", "adpcm_adx", False),
        ("asf", "wmav2", False), ("avi", "pcm_s16le", True), ("flv", "aac", False),
        ("mpegts", "mp2", True), ("mpeg", "mp2", True), ("matroska", "pcm_s24le", True),
        ("mov", "pcm_s16be", False), ("w64", "pcm_s16le", False), ("tta", "tta", False),
        ("wv", "wavpack", False), ("caf", "pcm_s16le", False), ("au", "pcm_s16be", False),
        ("sox", "pcm_s32le", False), ("ircam", "pcm_s16le", False),
        ("amr", "libopencore_amrnb", False), ("rm", "ac3", False),
    ],
)  # fmt: skip
def test_containers_that_hold_sound_are_decoded(tmp_path, form, codec, video):
    rate = {"amr": 8_000, "swf": 44_100}.get(form, 48_000)
    channels = 2 if form not in ("amr", "adx") else 1
    data = encoded(sound(2, rate, channels), rate, form, codec, video=video)
    decoded, found, _ = decode(tmp_path, f"a.{form}", data)
    assert found == rate and decoded.shape[1] == channels
    assert abs(len(decoded) / rate - 2) < 0.1


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"caf\xe9.flac", b"caf\xe9.m4a", b"\xff\xfe.mp3"])
def test_names_that_are_not_utf_8_are_read(tmp_path, name):
    ending = name.rpartition(b".")[2].decode()
    data = {
        "wav": lambda: written(sweep(1), 44_100, "WAV", "PCM_16"),
        "flac": lambda: written(sweep(1), 44_100, "FLAC", "PCM_16"),
        "m4a": lambda: encoded(sweep(1), 44_100, "ipod", "aac"),
        "mp3": lambda: b"".join(mp3(sweep(1), 44_100)),
    }[ending]()
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:
        file.write(data)
    assert read_audio(os.fsdecode(path), 44_100).shape[1] == pytest.approx(44_100, abs=NEAR)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_flac_with_bytes_inserted_is_reported(tmp_path, place):
    data = encoded(sound(2), 44_100, "flac", "flac")
    at = int(place * len(data))
    data = data[:at] + data[at - len(data) // 5 : at - len(data) // 9] + data[at:]
    decoded, rate, warnings = decode(tmp_path, "a.flac", data)
    assert len(decoded) / rate > 1.8
    assert any(
        "damaged" in warning.text or "not be decoded" in warning.text for warning in warnings
    )
