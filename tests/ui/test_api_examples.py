"""The calls in docs/api.md, and the command that the page prints, work against the real app."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import write_recording

from lily.ui.examples import RECORDINGS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PATIENCE = 900  # seconds, not expectation: the machine may be busy
PRINTED = "http://127.0.0.1:7860"


def block(kind: str, word: str) -> str:
    """The first block of code of a kind that contains this word."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    return next(text for text in blocks if word in text)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a recording in it."""
    wav = write_recording(tmp_path / "take.wav", 16_000, 1, 6.0)
    samples, rate = soundfile.read(wav)
    soundfile.write(tmp_path / "cassette.mp3", samples, rate)
    return tmp_path


def test_the_python_client_compares(address):
    script = block("python", "gradio_client").replace(PRINTED, address.rstrip("/"))
    script += "\nimport json; print(json.dumps([files, figures]))\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    files, figures = json.loads(done.stdout.splitlines()[-1])
    assert len(files) == 3 and figures["seed"] == 7
    assert all(soundfile.info(path).samplerate == 48_000 for path in files)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install -y curl")
def test_curl_compares(address):
    script = block("bash", "curl").replace(PRINTED, address.rstrip("/"))
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    files, figures = json.loads(done.stdout.split("data: ", 1)[1])
    assert len(files) == 3 and figures["seed"] == 7
    assert all(file["url"].startswith(address) for file in files)


@pytest.mark.parametrize("cutoff", [None, "0:3000.5,2.5:6000"])
@pytest.mark.parametrize("task", ["/compare", "/upsample"])
def test_the_printed_command_gives_the_samples_of_the_page(address, folder, task, cutoff):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    recording = handle_file(str(folder / "cassette.mp3"))
    files, figures = client.predict(recording, cutoff=cutoff, api_name=task)
    assert ("--cutoff 0:3000.5,2.5:6000" in figures["command"]) == bool(cutoff)
    command = figures["command"].replace("python", sys.executable, 1)
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # the same number of threads
    )
    assert done.returncode == 0, done.stderr
    for path in files:
        name = Path(path).name
        assert Path(path).read_bytes() == (folder / "out" / name).read_bytes(), name


def test_the_third_example_is_filled_in_its_narrow_half_only(address, tmp_path):
    from gradio_client import Client, handle_file

    example = RECORDINGS["changing-bandwidth"]
    recording = handle_file(str(example))
    files, _ = Client(address, verbose=False).predict(recording, seed=1, api_name="/upsample")
    given, _ = soundfile.read(example)
    made, rate = soundfile.read(files[0])
    change = np.abs(made - given)
    border = 7 * rate  # where its band ends at 4 kHz from then on
    assert change[: border - rate // 50].max() < 2.0**-22  # a step of 24 bits
    assert np.sqrt(np.square(change[border + rate // 50 :]).mean()) > 1e-4
