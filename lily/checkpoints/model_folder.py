"""Load and save model folders strictly: any mismatch is an error that names the first problem.

A model folder holds ``config.json`` (the model part of a preset), ``model.safetensors`` and
``README.md`` (the card). A folder whose configuration names a ``base_model`` is an adapter: it
holds only the encoder's tensors, and the base provides the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lily.checkpoints.files import open_safetensors
from lily.checkpoints.folder_config import WEIGHTS, weights_files, write_config
from lily.config.presets import Config
from lily.errors import WeightsError
from lily.model.latent_diffusion import ENCODER_PREFIX, LatentDiffusion

ENCODER_SEED = 0  # initialises an absent encoder, the same on every machine
Shapes = Mapping[str, torch.Size]


def load_model(config: Config, device: torch.device | str = "cpu") -> LatentDiffusion:
    """Build the configuration's model and load its folder strictly, in float32 for inference.

    Without any tensor of the encoder, the encoder starts neutral. Raises WeightsError that names
    the file and the first missing, unknown or misshapen tensors.
    """
    check_weights(config)
    tensors = {}
    for path in weights_files(config):
        tensors |= read_tensors(path)  # an adapter's tensors replace its base's
    complete = any(map(is_of_encoder, tensors))
    with torch.random.fork_rng(devices=[]), _NotDrawn() if complete else nullcontext():
        torch.manual_seed(ENCODER_SEED)
        model = LatentDiffusion(**config["model"]["params"])
    kept = {key: value for key, value in model.state_dict().items() if key not in tensors}
    model.load_state_dict(tensors | kept, strict=True)
    return model.to(device).eval().requires_grad_(False)


class _NotDrawn(TorchFunctionMode):
    """Build layers without drawing their start, where every tensor is loaded afterwards."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def check_weights(config: Config) -> None:
    """Compare names and shapes with the configuration's model, from the files' headers alone.

    The encoder's own tensors may all be absent, as in AudioSR's checkpoints; it then starts
    neutral. Raises WeightsError that names the file and the first missing, unknown or misshapen
    tensors.
    """
    expected = {key: value.shape for key, value in expected_tensors(config).items()}
    encoder = {key: shape for key, shape in expected.items() if is_of_encoder(key)}
    rest = {key: shape for key, shape in expected.items() if key not in encoder}
    *base, path = weights_files(config)
    found = read_shapes(path)
    if base:
        check_tensors(found, encoder, path)
        path, found = base[0], read_shapes(base[0])
    # AudioSR's own checkpoints have no encoder: all of it may be absent, never a part.
    check_tensors(found, rest if not found.keys() & encoder.keys() else expected, path)


def expected_tensors(config: Config) -> dict[str, Tensor]:
    """The state dict of a configuration's model on the meta device: names and shapes."""
    with torch.device("meta"):
        return LatentDiffusion(**config["model"]["params"]).state_dict()


def is_of_encoder(name: str) -> bool:
    """Whether a tensor belongs to the Global Audio Encoder or its conditioning."""
    return name.startswith(ENCODER_PREFIX) or ".global_" in name


def encoder_is_trained(config: Config) -> bool:
    """Whether the encoder of a configuration with local weights is trained, from its files alone.

    If it is untrained, every output projection is zero and changes no bit of the output.
    """
    trained: dict[str, bool] = {}
    for path in weights_files(config):
        with open_safetensors(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  not a mapping
                if is_of_encoder(key) and key.endswith(".global_out.weight"):
                    trained[key] = bool(file.get_tensor(key).any())
    return any(trained.values())


def read_shapes(path: Path) -> dict[str, torch.Size]:
    """Names and shapes of a safetensors file, without its data; raises WeightsError."""
    with open_safetensors(path, "pt") as file:
        return {key: torch.Size(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


# The names of its convolutions, before it read averages of cells.
EARLIER_ENCODER = f"{ENCODER_PREFIX}convolutions."


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file; raises WeightsError if it is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors: {error}") from error


def check_tensors(found: Shapes, expected: Shapes, path: Path) -> None:
    """Raise WeightsError unless names and shapes are exactly those expected."""
    if any(key.startswith(EARLIER_ENCODER) for key in found):
        raise WeightsError(
            f"{path} has an encoder of an earlier Lily, which read every cell of the log-mel. "
            "Distil it with benchmarks/distil_encoder.py, or train it again (docs/training.md)."
        )
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    shapes = [
        f"{key} is {tuple(found[key])}, expected {tuple(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if found[key] != expected[key]
    ]
    for problem, names in (("missing", missing), ("unknown", unknown), ("misshapen", shapes)):
        if names:
            raise WeightsError(
                f"{path}: {len(names)} {problem} tensors, first {', '.join(names[:3])}."
            )


def save_model_folder(
    model: LatentDiffusion, config: Config, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write ``config.json`` and ``model.safetensors``, each completely or not at all.

    The folder holds the whole model, also where ``config`` is an adapter's. Raises WeightsError for
    a value that ``dtype`` cannot hold.
    """
    whole = {key: value for key, value in config.items() if key != "base_model"}
    _save(model.state_dict(), whole, folder, dtype)


def save_adapter_folder(
    model: LatentDiffusion,
    config: Config,
    folder: Path,
    base_model: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write an adapter: a model folder with only the encoder's tensors.

    ``base_model`` is a preset's name, a folder or ``owner/name[@revision]``; it provides all other
    tensors.
    """
    state = {key: value for key, value in model.state_dict().items() if is_of_encoder(key)}
    _save(state, {**config, "base_model": base_model}, folder, dtype)


def _save(state: dict[str, Tensor], config: Config, folder: Path, dtype: torch.dtype) -> None:
    state = {
        key: value.detach().to("cpu", dtype if value.ndim else value.dtype).contiguous()
        for key, value in state.items()
    }
    for key, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(
                f"{key} has values that are no numbers or do not fit {dtype}, so {folder} is not "
                "written; train again, or from an earlier checkpoint."
            )
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (WEIGHTS + ".part")
    try:
        save_file(state, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # safetensors makes it private, but model folders are shared
        os.replace(partial, folder / WEIGHTS)
    finally:
        partial.unlink(missing_ok=True)
    write_config(config, folder)
