"""Two processes train one model: the same weights in both, from batches of each one's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import load_model
from lily.config.presets import load_config
from lily.training.loop import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path

from lily.config.presets import load_config
from lily.training.train import train

for event in train(load_config("tiny"), Path(sys.argv[1]), Path(sys.argv[2]), workers=1):
    pass
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Four sources of noise."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for source in "abcd":
        samples = 0.2 * torch.randn(80_000, 1, generator=generator)
        soundfile.write(folder / f"{source}__1.flac", samples.numpy(), 48_000)
    return folder


def check(out: Path) -> None:
    """Both processes stepped to the end, on batches of their own, and made one model."""
    saved = read_checkpoint(out / "diffusion.pt")
    assert saved["step"] == load_config("tiny")["training"]["diffusion"]["steps"]
    first, second = saved["generators"]
    assert not torch.equal(first, second)  # each drew batches of its own
    load_model(read_folder_config(out / "model"))


@pytest.mark.slow
def test_two_processes_hold_the_same_weights_and_export_a_model(corpus, tmp_path):
    out, port = tmp_path / "run", str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(corpus), str(out)],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1",
            },
            cwd=ROOT,
        )
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    check(out)


@pytest.mark.slow
def test_accelerate_launches_two_processes_in_mixed_precision(corpus, tmp_path):
    pytest.importorskip("accelerate", reason="pip install -e '.[dev]' brings accelerate")
    out = tmp_path / "run"
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    launch += ["--num_processes", "2", "--mixed_precision", "bf16"]
    launch += ["--main_process_port", str(free_port())]
    train = ["-m", "lily", "train", "--preset", "tiny", "--device", "cpu", "--workers", "1"]
    subprocess.run(
        [sys.executable, "-m", *launch, *train, "--data", corpus, "--out", out],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    check(out)
    assert "bfloat16" in read_checkpoint(out / "diffusion.pt")["fingerprint"]
