"""Refusals come before torch is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lily.checkpoints.resolve import bundled_folder

# All of them in one process, which would import torch at the first that needs it.
RUN = """
import contextlib, io, json, sys
from lily.cli import main
results = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = main(arguments.split())
        except SystemExit as stopped:
            code = stopped.code
    results.append([code, "torch" in sys.modules, said.getvalue()])
print(json.dumps(results))
"""
CASES = [
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
    ("upsample good.wav -o new --steps 0", "steps is 0; give 1 to"),
    ("upsample good.wav -o new --steps 1001", "steps is 1001; give 1 to"),
    ("upsample good.wav -o new --sampler euler", "Sampler 'euler' is not known"),
    ("upsample good.wav -o new --guidance 0.5", "guidance is 0.5; give 1 to"),
    ("upsample good.wav -o new --seed -1", "seed is -1"),
    ("upsample good.wav -o new --cutoff 100", "cutoff in Hz is 100"),
    ("upsample good.wav -o new --profile audiosr --steps 12", "numbers that divide 1000"),
    ("upsample good.wav -o new --encoder off --context good.wav", "needs the encoder"),
    ("upsample good.wav -o new --weights model", "model.safetensors is damaged"),
    ("upsample good.wav -o new --preset tiny", "names no weights"),
    ("compare good.wav -o new --steps 0", "steps is 0"),
    ("batch corpus new --sampler euler", "Sampler 'euler' is not known"),
    ("batch corpus new --threads 0", "not a whole number of at least 1"),
    ("bench --weights /nowhere --no-start", "/nowhere"),
    ("bench --no-start --rounds 0", "at least one round"),
    ("bench --no-start --growth 60", "at least two durations"),
    ("bench --no-start --guidance 0", "guidance is 0"),
    ("evaluate corpus --steps 0", "steps is 0"),
    ("evaluate corpus --judges peaq", "No judge is called 'peaq'"),
    ("evaluate corpus --controls changing", "No case is called 'changing'"),
    ("evaluate notes", "holds no audio"),
    ("train --data nowhere --out new", "nowhere is not a folder"),
    ("train --data notes --out new", "holds no audio"),
    ("train --data corpus --out run", "already holds checkpoints"),
    ("train --data corpus --out new --stage last", "Stage 'last' is not known"),
    ("train --data corpus --out new --stage vocoder", "needs autoencoder first"),
    ("train --data corpus --out new --share 2", "share of 2"),
    ("train --data corpus --out new --preset lily-maxi", "No preset 'lily-maxi'"),
    ("train --data corpus --out new --base gone/model/x", "is no folder"),
    ("convert gone.ckpt -o new", "gone.ckpt is not a file"),
    ("convert good.wav -o new", "ends in '.wav'"),
    ("convert damaged.safetensors -o new", "is damaged or not safetensors"),
    ("convert audiosr.ckpt -o corpus", "corpus is not empty"),
    ("verify gone.wav", "gone.wav cannot be read"),
    ("verify good.wav", "has no metadata"),
    ("verify good.wav --against text.wav", "text.wav"),
    ("verify good.wav --cutoff 8000", "belongs to --against"),
    ("verify good.wav --against good.wav --cutoff abc", "is not a cutoff"),
    ("publish model no-owner", "is no name on the Hub"),
    ("publish model owner/name", "model.safetensors is damaged"),
    ("info --preset lily-maxi", "No preset 'lily-maxi'"),
    ("evaluate nowhere", "nowhere is not a folder"),
    ("publish nowhere owner/name", "nowhere is not a model folder"),
    ("batch nowhere new", "is not a folder"),
    ("batch notes new", "No recording was found"),
]


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
    (folder / "corpus").mkdir()
    for name in ("a.wav", "b.wav"):
        shutil.copy(folder / "good.wav", folder / "corpus" / name)
    (folder / "run").mkdir()
    (folder / "run/autoencoder.pt").write_text("precious")
    (folder / "audiosr.ckpt").write_text("a pickle")
    (folder / "damaged.safetensors").write_text("no header")
    shutil.copytree(bundled_folder("lily-mini"), folder / "model")
    (folder / "model/model.safetensors").write_text("no header")
    (folder / "notes").mkdir()
    (folder / "notes/notes.pdf").write_text("no audio" * 50)
    return folder


@pytest.fixture(scope="module")
def results(place) -> dict[str, tuple[int, bool, str]]:
    """Of each case: exit code, whether torch was imported by then, and standard error."""
    run = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([arguments for arguments, _ in CASES]),
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(run.stdout.splitlines()[-1])
    return {arguments: row for (arguments, _), row in zip(CASES, rows, strict=True)}


@pytest.mark.parametrize(("arguments", "said"), CASES)
def test_a_refusal_needs_no_torch(results, arguments, said):
    code, imported, text = results[arguments]
    assert (code, imported) == (2, False), text
    assert said in text and "Traceback" not in text


def test_a_refusal_writes_and_removes_nothing(place, results):
    assert not (place / "new").exists()
    assert (place / "out/good.wav").read_text() == "precious"
    assert (place / "run/autoencoder.pt").read_text() == "precious"
