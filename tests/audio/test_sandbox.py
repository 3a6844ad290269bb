"""Laws of decoding in child processes: a decoder that crashes or hangs harms nothing.

Where a decoder has to misbehave, its child imports ``misbehaving`` below and decodes with that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lily.audio import sandbox
from lily.audio.read import probe, read_audio, read_blocks
from lily.errors import InputError

PATIENCE = 30  # seconds, not expectation
BOTH = [
    pytest.param(True, id="forked", marks=pytest.mark.skipif(not sandbox.FORKS, reason="Linux")),
    pytest.param(False, id="spawned"),
]
MISBEHAVING = """
import os, resource, signal, socket, sys, time
import numpy as np
from lily.audio import decoder, sandbox

def crash(number):
    os.kill(os.getpid(), number)

def hang():
    time.sleep(1000)

def fail():
    raise ZeroDivisionError("secret detail")

def eat_memory():
    np.ones(5 << 30, np.uint8)

def report():
    found = {name: resource.getrlimit(getattr(resource, name)) for name in sandbox.LIMITS}
    try:
        with open(TARGET, "wb") as file:
            file.write(b"stolen")
    except OSError as error:
        found["write"] = error.errno
    found["environment"] = sorted(os.environ)
    raise sandbox.InputError(repr(found))

def decode(file, name):
    items = decoder.decode(file, name)
    yield next(items)
    yield next(items)
    ACTION

sandbox.decode = decode
"""


@pytest.fixture
def recording(tmp_path) -> Path:
    """Twenty seconds of noise, more than a pipe holds."""
    path = tmp_path / "take.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 960_000), 48_000)
    return path


@pytest.fixture(params=BOTH)
def way(request, monkeypatch) -> bool:
    """How children start, with a helper of this test's own."""
    monkeypatch.setattr(sandbox, "FORKS", request.param)
    monkeypatch.setattr(sandbox, "_helpers", {})
    return request.param


@pytest.fixture
def misbehave(way, tmp_path, monkeypatch):
    """``misbehave(call)`` makes children call that after the first block."""
    command = sandbox.COMMAND
    folder = tmp_path / "code"
    folder.mkdir()

    def change(call: str, setting: str = "") -> Path:
        text = MISBEHAVING.replace("ACTION", call) + setting
        text = text.replace("TARGET", repr(str(tmp_path / "target")))
        (folder / "misbehaving.py").write_text(text)
        more = f"; sys.path.insert(0, {str(folder)!r}); import misbehaving; sandbox."
        monkeypatch.setattr(sandbox, "COMMAND", command.replace("; sandbox.", more))
        return tmp_path / "target"

    return change


def children() -> list[int]:
    """The processes that the helper has forked and that still run."""
    process = sandbox._helpers[os.getpid()].process.pid
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(process) for process in text.split()]


def wait_for_none() -> None:
    deadline = time.monotonic() + PATIENCE
    while children():
        assert time.monotonic() < deadline, "a decoder outlived its reader"
        time.sleep(0.01)


def test_a_file_is_decoded(way, recording):
    samples = soundfile.read(recording, dtype="float32")[0]
    assert np.array_equal(read_audio(recording)[0].numpy(), samples)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_decoder_that_crashes_costs_a_sentence(misbehave, recording, number):
    misbehave(f"crash({int(number)})")
    with pytest.raises(InputError, match=r"take.flac makes its decoder fail"):
        list(read_blocks(recording))


def test_a_decoder_that_hangs_is_ended(misbehave, recording, monkeypatch):
    misbehave("hang()", "sandbox.HANG_SECONDS = 0.5")
    with pytest.raises(InputError, match="makes its decoder fail"):
        list(read_blocks(recording))


def test_a_decoder_that_takes_too_much_memory_is_ended(misbehave, recording):
    misbehave("eat_memory()")
    with pytest.raises(InputError, match="makes its decoder fail"):
        list(read_blocks(recording))


def test_a_bug_in_a_decoder_is_logged_and_reported_calmly(misbehave, recording, caplog):
    misbehave("fail()")
    with pytest.raises(InputError, match="makes its decoder fail") as told:
        list(read_blocks(recording))
    assert "secret" not in str(told.value) and "secret detail" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have not all limits")
def test_a_decoder_may_write_no_file_and_knows_no_secret(misbehave, recording, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    target = misbehave("report()")
    with pytest.raises(InputError) as told:
        list(read_blocks(recording))
    found = eval(str(told.value))  # noqa: S307, our own repr
    assert found["RLIMIT_FSIZE"] == (0, 0) and found["RLIMIT_CORE"] == (0, 0)
    assert found["RLIMIT_AS"] == (4 << 30, 4 << 30)
    assert found["write"] == 27, "EFBIG"
    assert not target.exists() or not target.read_bytes()
    assert "PATH" in found["environment"] and "HF_TOKEN" not in found["environment"]
    if sandbox.FORKS:
        process = sandbox._helpers[os.getpid()].process.pid
        assert b"hf_secret" not in Path(f"/proc/{process}/environ").read_bytes()


needs_helper = pytest.mark.skipif(not sandbox.FORKS, reason="children are forked on Linux only")


@needs_helper
def test_a_reader_that_goes_away_ends_its_decoder(recording):
    blocks = read_blocks(recording)
    next(blocks)
    assert len(children()) == 1
    blocks.close()
    wait_for_none()
    assert probe(recording).frames == 960_000
    wait_for_none()


@needs_helper
def test_files_are_read_side_by_side(recording):
    pairs = zip(read_blocks(recording), read_blocks(recording, 1 << 16), strict=True)
    assert all((a == b).all() for a, b in pairs)


@needs_helper
def test_a_helper_that_was_killed_is_started_again(recording):
    probe(recording)
    process = sandbox._helpers[os.getpid()].process
    process.kill()
    process.wait()
    assert read_audio(recording).shape == (1, 960_000)
    assert sandbox._helpers[os.getpid()].process is not process


@needs_helper
def test_threads_that_decode_their_first_files_together_share_one_helper(recording, monkeypatch):
    count, shapes, started = 8, [], []
    start = sandbox._Helper._start

    def counted(helper):
        started.append(helper)
        start(helper)

    monkeypatch.setattr(sandbox._Helper, "_start", counted)
    monkeypatch.setattr(sandbox, "_helpers", {})
    together = threading.Barrier(count)

    def read():
        together.wait()
        shapes.append(tuple(read_audio(recording).shape))

    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(1, 960_000)] * count and len(started) == 1
