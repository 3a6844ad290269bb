"""Average the weights of models of one architecture."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lily.checkpoints.model_folder import is_of_encoder, load_model, save_model_folder
from lily.config.presets import Config
from lily.errors import InputError, WeightsError


def average_models(configs: Sequence[Config], folder: Path, keep_encoder: bool = False) -> None:
    """Write a model folder with the mean of the models' weights.

    ``configs`` name weights on this machine; the written configuration is that of the first. With
    ``keep_encoder`` the encoder and its conditioning are the first model's, and those of the others
    may differ in what they read. The mean of a fine-tuned model and its base often generalises
    better than either (Wortsman et al. 2022, arXiv 2109.01903). It is computed in float32 and
    stored in float16. Raises InputError for fewer than two models or a folder that exists, and
    WeightsError for models of different architectures.
    """
    if len(configs) < 2:
        raise InputError("Give at least two models to average.")
    if folder.exists():
        raise InputError(f"{folder} exists already; give a new folder.")
    first = configs[0]
    for other in configs[1:]:
        if _architecture(other, keep_encoder) != _architecture(first, keep_encoder):
            raise WeightsError(
                f"{_place(other)} and {_place(first)} differ in their `model` section; only models "
                "of one architecture have a mean."
            )
    models = [load_model(config) for config in configs]
    states = [model.state_dict() for model in models]
    mean = {
        name: value
        if keep_encoder and is_of_encoder(name)
        else _mean([state[name] for state in states])
        for name, value in states[0].items()
    }
    models[0].load_state_dict(mean, strict=True)
    save_model_folder(models[0], first, folder)


def _architecture(config: Config, but_the_encoder: bool) -> dict[str, Any]:
    """The model section, without what the encoder reads where that may differ."""
    section = deepcopy(config["model"])
    if but_the_encoder:
        section["params"]["unet_config"]["params"].pop("global_encoder", None)
    return section


def _mean(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(0).to(tensors[0].dtype)


def _place(config: Config) -> str:
    return str(config["weights"]["folder"])
