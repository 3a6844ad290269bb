"""Laws of decoding elsewhere: a decoder that crashes, hangs or is abandoned harms nobody."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lily.audio import sandbox
from lily.audio.read import probe, read_audio, read_blocks
from lily.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guarded on Linux only")
PATIENCE = 30  # seconds, not expectation


@pytest.fixture
def recording(tmp_path) -> Path:
    """Twenty seconds of noise, more than a pipe holds."""
    path = tmp_path / "take.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 960_000), 48_000)
    return path


def helper() -> int:
    """The process that forks the decoders."""
    return sandbox._helper(os.getpid())._process.pid


def decoders() -> list[int]:
    """The processes that decode a file now."""
    text = Path(f"/proc/{helper()}/task/{helper()}/children").read_text()
    return [int(process) for process in text.split()]


def wait_for_none() -> None:
    deadline = time.monotonic() + PATIENCE
    while decoders():
        assert time.monotonic() < deadline, "a decoder outlived its reader"
        time.sleep(0.01)


@pytest.mark.parametrize("death", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_decoder_that_crashes_costs_a_sentence_and_the_next_file_is_read(recording, death):
    blocks = read_blocks(recording)
    next(blocks)
    (process,) = decoders()
    os.kill(process, death)
    with pytest.raises(InputError, match=r"take.flac makes its decoder fail"):
        list(blocks)
    assert read_audio(recording).shape == (1, 960_000)


def test_a_decoder_that_hangs_is_given_up_and_ended(recording, monkeypatch):
    monkeypatch.setattr(sandbox, "QUIET_SECONDS", 0.1)
    blocks = read_blocks(recording)
    next(blocks)
    os.kill(decoders()[0], signal.SIGSTOP)
    with pytest.raises(InputError, match="makes its decoder fail"):
        list(blocks)
    wait_for_none()


def test_a_reader_that_goes_away_ends_its_decoder(recording):
    blocks = read_blocks(recording)
    next(blocks)
    assert len(decoders()) == 1
    blocks.close()
    wait_for_none()
    assert probe(recording).frames == 960_000
    wait_for_none()


def test_files_are_read_side_by_side(recording):
    pairs = zip(read_blocks(recording), read_blocks(recording, 1 << 16), strict=True)
    assert all((a == b).all() for a, b in pairs)


def test_a_helper_that_was_killed_is_started_again(recording):
    os.kill(helper(), signal.SIGKILL)
    os.waitpid(helper(), 0)
    assert read_audio(recording).shape == (1, 960_000)


def test_a_bug_in_a_decoder_is_logged_and_told_calmly(recording, monkeypatch, caplog, tmp_path):
    def broken(_path):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(sandbox, "decode", broken)
    with (tmp_path / "told").open("wb") as pipe:
        sandbox._answer(recording, pipe)
    monkeypatch.setattr(sandbox, "_ask", lambda _path: (tmp_path / "told").open("rb", 0))
    monkeypatch.setattr(sandbox, "_read", lambda pipe, size, _path: pipe.read(size))
    with pytest.raises(InputError, match="makes its decoder fail") as told:
        probe(recording)
    assert "secret" not in str(told.value) and "secret detail" in caplog.text


def test_a_decoder_knows_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    sandbox._helper.cache_clear()
    environment = Path(f"/proc/{helper()}/environ").read_bytes()
    assert b"hf_secret" not in environment and b"PATH=" in environment
