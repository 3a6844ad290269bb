"""Refusals come before torch is imported: each run here ends without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RUN = """
import sys
from lily.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stopped:
    code = stopped.code
print(code, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    soundfile.write(folder / "good.wav", np.zeros(800) + 0.1, 8_000)
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio" * 50)
    (folder / "out").mkdir()
    (folder / "out/good.wav").write_text("precious")
    (folder / "compared").mkdir()
    (folder / "compared/good.off.wav").write_text("precious")
    (folder / "notes").mkdir()
    (folder / "notes/notes.pdf").write_text("no audio" * 50)
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--version", ""),
        ("upsample --no-such-option", "usage"),
        ("upsample good.wav -o new --cutoff abc", "is not a cutoff"),
        ("upsample good.wav -o new --profile none", "invalid choice"),
        ("upsample gone.wav -o new", "gone.wav cannot be read"),
        ("upsample notes -o new", "is a folder"),
        ("upsample empty.wav -o new", "is empty"),
        ("upsample text.wav empty.wav -o new", "text.wav"),
        ("upsample good.wav -o out", "good.wav exists already"),
        ("upsample good.wav sub/good.flac -o new", "would both become"),
        ("upsample good.wav -o new --preset lily-maxi", "No preset 'lily-maxi'"),
        ("upsample good.wav -o new --weights /nowhere", "/nowhere"),
        ("compare good.wav -o new --reference gone.wav", "gone.wav cannot be read"),
        ("compare good.wav -o compared", "good.off.wav exists already"),
        ("bench --weights /nowhere --no-start", "/nowhere"),
        ("info --preset lily-maxi", "No preset 'lily-maxi'"),
        ("evaluate nowhere", "nowhere is not a folder"),
        ("publish nowhere owner/name", "nowhere is not a model folder"),
        ("batch nowhere new", "is not a folder"),
        ("batch notes new", "No recording was found"),
    ],
)
def test_a_refusal_needs_no_torch(place, arguments, said):
    run = subprocess.run(
        [sys.executable, "-c", RUN, *arguments.split()], cwd=place, capture_output=True, text=True
    )
    code = "0" if arguments == "--version" else "2"
    assert run.stdout.splitlines()[-1].split() == [code, "False"], run.stderr
    assert said in run.stderr and "Traceback" not in run.stderr
    assert not (place / "new").exists()
    assert (place / "out/good.wav").read_text() == "precious"
