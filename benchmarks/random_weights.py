"""Write full-size weights drawn from a seed, as AudioSR's checkpoint and as Lily's model folder.

    python benchmarks/random_weights.py FOLDER

makes ``FOLDER/audiosr.safetensors`` (4.3 GB, what ``audiosr.build_model(ckpt_path=…)`` takes) and,
through ``lily convert``, ``FOLDER/audiosr-random`` (2.7 GB): the same numbers on both sides. Speed
does not depend on their values, as long as they stay far from denormals and overflow, which the
layers' own start sees to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lily.checkpoints.model_folder import is_of_encoder
from lily.cli import main as lily
from lily.config.presets import load_config
from lily.model.latent_diffusion import LatentDiffusion

SEED = 0
FIRST_VAE, SECOND_VAE = "first_stage_model.", "cond_stage_models.0.vae."
STILL = 0.02  # spread of what starts at zero, so that no branch is dead


def random_state() -> dict[str, Tensor]:
    """AudioSR's tensors by name, float32; its second VAE is the first, as in its checkpoints."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LatentDiffusion(**load_config("audiosr-basic")["model"]["params"])
    generator = torch.Generator().manual_seed(SEED)
    state = {}
    for name, value in model.state_dict().items():
        if is_of_encoder(name):
            continue
        if value.ndim > 1 and not value.any():
            value = torch.empty_like(value).normal_(0, STILL, generator=generator)
        state[name] = value
    second = {
        SECOND_VAE + name.removeprefix(FIRST_VAE): value.clone()
        for name, value in state.items()
        if name.startswith(FIRST_VAE)
    }
    return state | second


def write(folder: Path) -> int:
    """Write both; returns the exit code of ``lily convert``."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "audiosr.safetensors"
    save_file(random_state(), checkpoint)
    return lily(
        ["convert", str(checkpoint), "-o", str(folder / "audiosr-random"), "--dtype", "fp32"]
    )


if __name__ == "__main__":
    sys.exit(write(Path(sys.argv[1])))
