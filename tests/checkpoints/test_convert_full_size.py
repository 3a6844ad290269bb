"""The full-size model, 6 GB of random numbers in AudioSR's format: converts and keeps its bits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from test_convert_audiosr import reference_shapes

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import is_of_encoder, load_model

GIGABYTE = 10**9
CLAP = {"clap.model.weight": (200_000_000,)}  # the published one has 507 tensors, 0.8 GB
# Prints its own peak memory, mapped pages included; getrusage would count this test's, too.
COMMAND = """
import sys
from lily.cli import main
code = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def random_checkpoint(path: Path) -> Path:
    """The reference's 3,236 tensors and CLAP, seeded, as one pickle under ``state_dict``."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, shape in {**reference_shapes(), **CLAP}.items():
        if name.startswith("cond_stage_models.0.vae."):  # AudioSR saves it as storage of its own
            state[name] = state[
                name.replace("cond_stage_models.0.vae", "first_stage_model")
            ].clone()
        else:
            state[name] = torch.empty(shape).normal_(0, 0.02, generator=generator)
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Path]:
    path = random_checkpoint(tmp_path_factory.mktemp("audiosr") / "pytorch_model.bin")
    yield path
    path.unlink()  # pytest keeps the folders of three runs


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_full_size_checkpoint_converts_in_its_own_size_and_keeps_its_bits(
    checkpoint, tmp_path, dtype
):
    folder = tmp_path / "audiosr-random"
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, "convert", checkpoint, "-o", folder, "--dtype", dtype],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    peak, size = 1024 * int(run.stdout.splitlines()[-1]), checkpoint.stat().st_size
    weights = folder / "model.safetensors"
    print(
        f"\n{size / 1e9:.2f} GB -> {weights.stat().st_size / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB"
    )
    print(run.stderr)
    assert size > 6 * GIGABYTE and peak < size + GIGABYTE
    assert weights.stat().st_size / (672_012_547 * (4 if dtype == "fp32" else 2)) < 1.001
    source = torch.load(checkpoint, weights_only=True, mmap=True)["state_dict"]
    loaded = load_model(read_folder_config(folder))
    assert not loaded.encoder_is_trained
    state = loaded.state_dict()
    with safe_open(weights, framework="pt") as saved:
        names = set(saved.keys())
        assert names == {key for key in state if not is_of_encoder(key)}
        for key in names:
            kept = source[key].to(saved.get_tensor(key).dtype)
            assert torch.equal(saved.get_tensor(key), kept), key
            assert torch.equal(state[key], kept.float()), key
    weights.unlink()
