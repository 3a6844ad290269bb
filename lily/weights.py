"""Weights in and out as safetensors: strict, or an error that names the first problem.

A model folder holds ``config.json`` (the preset's model part, frozen), ``model.safetensors`` and
``README.md`` (the card). The only importer of safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lily.config import Config, load_config, validate
from lily.errors import ConfigError, WeightsError
from lily.model.latent_diffusion import ENCODER_PREFIX, LatentDiffusion

FORMAT = 1  # of a model folder
WEIGHTS = "model.safetensors"
ENCODER_SEED = 0  # an absent encoder is made of this seed, the same on every machine
FROZEN = ("name", "preprocessing", "model", "inference")  # what a folder needs of its preset


def bundled_folder(name: str) -> Path:
    """Where a model that ships with Lily lies."""
    return Path(__file__).resolve().parent / "assets" / name


def model_folder(config: Config) -> Path:
    """The folder a preset's weights come from; raises WeightsError if it is not there."""
    weights = config.get("weights", {})
    folder = Path(weights["folder"]) if "folder" in weights else None
    if folder is None and "bundled" in weights:
        folder = bundled_folder(weights["bundled"])
    if folder is None:
        raise WeightsError(
            f"Preset {config.get('name')!r} names no bundled weights and no folder; give "
            "--weights FOLDER."
        )
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"{folder} has no {WEIGHTS}; give a model folder.")
    return folder


def is_available(config: Config) -> bool:
    """Whether a preset's weights are on this machine."""
    try:
        model_folder(config)
    except WeightsError:
        return False
    return True


def read_folder_config(folder: Path) -> Config:
    """The configuration frozen in a model folder, with its weights set to that folder."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} is not a model folder: it has no config.json.") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("lily_format") != FORMAT:
        found = config.get("lily_format") if isinstance(config, dict) else None
        raise WeightsError(f"{path} has format {found!r}; this version of Lily reads {FORMAT}.")
    config.pop("lily_format")
    try:
        return {**validate(config, path.name), "weights": {"folder": str(folder)}}
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error


def resolve_config(name: str | None = None, weights: str | None = None) -> Config:
    """A preset by name or path, or a model folder's own configuration."""
    if weights is not None:
        return read_folder_config(Path(weights))
    return load_config(name or "lily-mini")


def load_model(config: Config, device: torch.device | str = "cpu") -> LatentDiffusion:
    """Build the configuration's model and load its weights strictly, in float32 for inference.

    The encoder's own tensors may be absent, all of them, as they are from AudioSR's checkpoints:
    it starts neutral then. Raises WeightsError naming the file and the first missing, unknown or
    misshapen tensors.
    """
    folder = model_folder(config)
    expected = expected_tensors(config)
    tensors = read_tensors(folder / WEIGHTS)
    if not any(map(is_of_encoder, tensors)):
        expected = {key: value for key, value in expected.items() if not is_of_encoder(key)}
    check_tensors(tensors, expected, folder / WEIGHTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ENCODER_SEED)
        model = LatentDiffusion(**config["model"]["params"])
    neutral = {key: value for key, value in model.state_dict().items() if key not in expected}
    model.load_state_dict({**neutral, **tensors}, strict=True)
    return model.to(device).eval().requires_grad_(False)


def expected_tensors(config: Config) -> dict[str, Tensor]:
    """Names and shapes of everything a configuration's model saves, on the meta device."""
    with torch.device("meta"):
        return LatentDiffusion(**config["model"]["params"]).state_dict()


def is_of_encoder(name: str) -> bool:
    """Whether a tensor is the Global Audio Encoder's own: what AudioSR's checkpoints lack."""
    return name.startswith(ENCODER_PREFIX) or ".global_" in name


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file; raises WeightsError if it is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors: {error}") from error


def check_tensors(tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError unless names and shapes are exactly those expected."""
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & tensors.keys())
        if tensors[key].shape != expected[key].shape
    ]
    for problem, names in (("missing", missing), ("unknown", unknown), ("misshapen", shapes)):
        if names:
            raise WeightsError(
                f"{path}: {len(names)} {problem} tensors, first {', '.join(names[:3])}."
            )


def save_model_folder(
    model: LatentDiffusion, config: Config, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write ``config.json`` and ``model.safetensors``; each is complete or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().to("cpu", dtype if value.ndim else value.dtype).contiguous()
        for key, value in model.state_dict().items()
    }
    partial = folder / (WEIGHTS + ".part")
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors makes it private; a model folder is for sharing
    os.replace(partial, folder / WEIGHTS)
    write_config(config, folder)


def write_config(config: Config, folder: Path) -> None:
    """Write ``config.json``: the configuration's part that a folder needs, frozen."""
    frozen = {"lily_format": FORMAT, **{k: config[k] for k in FROZEN if k in config}}
    partial = folder / "config.json.part"
    partial.write_text(json.dumps(frozen, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")
