"""Average the weights of models of one architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lily.checkpoints.model_folder import load_model, save_model_folder
from lily.config.presets import Config
from lily.errors import InputError, WeightsError


def average_models(configs: Sequence[Config], folder: Path) -> None:
    """Write a model folder with the mean of the models' weights.

    ``configs`` name weights on this machine; the written configuration is that of the first. The
    sum is computed in float32 and stored in float16. Raises InputError for fewer than two models or
    a folder that exists, and WeightsError for models of different architectures.
    """
    if len(configs) < 2:
        raise InputError("Give at least two models to average.")
    if folder.exists():
        raise InputError(f"{folder} exists already; give a new folder.")
    first = configs[0]
    for other in configs[1:]:
        if other["model"] != first["model"]:
            raise WeightsError(
                f"{_place(other)} and {_place(first)} differ in their `model` section; only models "
                "of one architecture have a mean."
            )
    models = [load_model(config) for config in configs]
    states = [model.state_dict() for model in models]
    mean = {name: _mean([state[name] for state in states]) for name in states[0]}
    models[0].load_state_dict(mean, strict=True)
    save_model_folder(models[0], first, folder)


def _mean(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(0).to(tensors[0].dtype)


def _place(config: Config) -> str:
    return str(config["weights"]["folder"])
