"""A file is described without torch, and refused in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
import soundfile

from lily.audio.probe import probe
from lily.errors import InputError


def test_a_recording_is_described(tmp_path):
    soundfile.write(tmp_path / "a.wav", [[0.0, 0.1]] * 800, 8_000)
    info = probe(tmp_path / "a.wav")
    assert (info.sample_rate, info.channels, info.frames) == (8_000, 2, 800)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.wav", None, "cannot be read"),
        ("empty.wav", b"", "is empty"),
        ("text.wav", b"not audio" * 50, "text.wav"),
    ],
)
def test_anything_else_is_refused(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        probe(tmp_path / name)


def test_torch_is_not_needed():
    code = "import sys, lily.audio.probe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
