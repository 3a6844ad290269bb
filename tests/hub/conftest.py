"""A Hub over HTTP and a Lily that talks to it: HF_ENDPOINT is read at import, so in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hubserver import HubServer

from lily.checkpoints.model_folder import save_model_folder
from lily.config.presets import load_config
from lily.model.latent_diffusion import LatentDiffusion

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub."""
    server = HubServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A model folder of the tiny preset, its encoder's projections not zero."""
    return tiny_folder(tmp_path_factory.mktemp("tiny") / "model", trained=True)


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    """The folder's files as a Hub keeps them."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def untrained(tmp_path: Path) -> dict[str, bytes]:
    """The files of a tiny model whose encoder never left its neutral start."""
    return {p.name: p.read_bytes() for p in tiny_folder(tmp_path / "u", trained=False).iterdir()}


def tiny_folder(path: Path, trained: bool) -> Path:
    """Write a model folder of the tiny preset, from a seed."""
    config = load_config("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LatentDiffusion(**config["model"]["params"])
        for transformer in model.unet.conditioned() if trained else ():
            torch.nn.init.normal_(transformer.global_out.weight, std=0.1)
    save_model_folder(model, config, path)
    return path


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """An environment whose Hub is the test's and whose cache is empty."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "LILY_"))}
    return kept | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",  # the test's Hub speaks plain HTTP
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess]:
    """Run ``python *arguments`` in that environment, with more of it by keyword."""

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
