"""The GPU job, rehearsed on the CPU with a tiny model: every step runs, none stops the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from test_engine import make_folder

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 2**20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="the job is a shell script"),
]


def job(out: Path, *arguments: str | Path, **variables: str | Path) -> subprocess.CompletedProcess:
    rehearsal = {"PYTHON": sys.executable, "DEVICE": "cpu", "AUDIO_SECONDS": "2", "ROUNDS": "1"}
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(out), *map(str, arguments)],
        cwd=out.parent,
        env=os.environ
        | {"TESTS": "tests/inference/test_engine.py"}
        | rehearsal
        | {key: str(value) for key, value in variables.items()},
        capture_output=True,
        text=True,
    )


def test_every_step_leaves_its_exit_code_and_figures(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in ("a__1", "a__2", "b__1", "c__1"):
        noise = 0.2 * torch.randn(80_000, 1, generator=generator)
        soundfile.write(corpus / f"{name}.flac", noise.numpy(), 48_000)
    model = make_folder(tmp_path / "model")
    out = tmp_path / "out"
    stage = ("--preset", "tiny", "--stage", "finish", "--workers", "1")
    done = job(out, *stage, "--data", "corpus", "--base", "model", MODEL=model)
    logs = {path.stem: path.read_text()[-500:] for path in out.glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["steps"]) == ["device", "pytest", "bench-bf16", "bench-fp32", "train"]
    assert {step["exit"] for step in summary["steps"].values()} == {0}
    for precision, name in (("bf16", "bfloat16"), ("fp32", "float32")):
        row = summary["figures"][f"bench-{precision}"]
        assert row["precision"] == name and row["audio"]["seconds"] == 2
        assert row["peak_memory_mib"] > 0
    assert (out / "train" / "model" / "model.safetensors").is_file()
    assert "bench-fp32, memory" in (out / "summary.txt").read_text()


def test_steps_after_a_failed_one_run_and_large_files_are_split(tmp_path):
    out = tmp_path / "out"
    script = tmp_path / "python"  # stands in for Python: writes 20 MiB into a log and fails
    script.write_text(
        "#!/bin/sh\ncase $* in\n"
        "*import\\ torch*) exit 0 ;;\n"
        f'*gpu_summary*) exec {sys.executable} "$@" ;;\n'
        "*bf16*) head -c 20971520 /dev/zero >&2; exit 3 ;;\n"
        "esac\nexit 0\n"
    )
    script.chmod(0o755)
    done = job(out, MODEL=tmp_path, PYTHON=script)
    assert done.returncode == 1, done.stderr
    steps = json.loads((out / "summary.json").read_text())["steps"]
    assert steps["bench-bf16"]["exit"] == 3 and steps["bench-fp32"]["exit"] == 0
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    assert max(sizes) < 16 * MEBIBYTE and sum(sizes) > 20 * MEBIBYTE


def test_steps_that_no_time_is_left_for_are_reported(tmp_path):
    out = tmp_path / "out"
    done = job(out, MODEL=tmp_path, BUDGET="30")
    assert done.returncode == 1, done.stderr
    steps = json.loads((out / "summary.json").read_text())["steps"]
    assert {step["exit"] for step in steps.values()} == {124}
    assert "bench-fp32: ran out of time" in (out / "summary.txt").read_text()


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "earlier").write_text("figures")
    done = job(tmp_path / "out", MODEL=tmp_path)
    assert done.returncode == 2 and "is not empty" in done.stderr
