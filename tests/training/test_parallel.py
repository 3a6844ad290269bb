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

from lily.config import load_config
from lily.training.loop import read_checkpoint
from lily.weights import load_model, read_folder_config

PROGRAM = """
import sys
from pathlib import Path

from lily.config import load_config
from lily.training.train import train

for event in train(load_config("tiny"), Path(sys.argv[1]), Path(sys.argv[2]), workers=1):
    pass
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
def test_two_processes_hold_the_same_weights_and_export_a_model(tmp_path):
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    generator = torch.Generator().manual_seed(0)
    for source in "abcd":
        samples = 0.2 * torch.randn(80_000, 1, generator=generator)
        soundfile.write(corpus / f"{source}__1.flac", samples.numpy(), 48_000)
    port = str(free_port())
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
            cwd=Path(__file__).resolve().parents[2],
        )
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    saved = read_checkpoint(out / "diffusion.pt")
    steps = load_config("tiny")["training"]["diffusion"]["steps"]
    assert saved["step"] == steps
    first, second = saved["generators"]
    assert not torch.equal(first, second)  # each drew batches of its own
    load_model(read_folder_config(out / "model"))
