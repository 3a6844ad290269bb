"""Laws of decoding: a file can open no other file and no address, and each lock alone is enough."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from lily.audio import decoder
from lily.audio.read import read_audio
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
    formats, protocols = decoder.CONTAINERS, decoder.PROTOCOLS
    with pytest.raises(InputError, match="not audio"):
        read_audio(path)
    monkeypatch.setattr(decoder, "PROTOCOLS", MORE_PROTOCOLS)
    with pytest.raises(InputError, match="not audio"):
        decoded_frames(path)
    monkeypatch.setattr(decoder, "CONTAINERS", formats + MORE_FORMATS)
    assert decoded_frames(path) >= 47_104, "the target is real: without locks it is opened"
    monkeypatch.setattr(decoder, "PROTOCOLS", protocols)
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
        monkeypatch.setattr(decoder, "PROTOCOLS", MORE_PROTOCOLS)
        monkeypatch.setattr(decoder, "CONTAINERS", decoder.CONTAINERS + MORE_FORMATS)
        assert decoded_frames(path) >= 47_104 and asked, "the address is real"
        server.shutdown()
