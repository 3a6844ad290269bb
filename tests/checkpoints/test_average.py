"""The mean of models is the mean of each tensor, of one architecture, in a new folder."""

from __future__ import annotations

import pytest
import torch

from lily.checkpoints.average import average_models
from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import is_of_encoder, load_model, save_model_folder
from lily.cli import main
from lily.config.presets import load_config
from lily.errors import InputError, WeightsError
from lily.model.latent_diffusion import LatentDiffusion


@pytest.fixture
def folders(tmp_path):
    config = load_config("tiny")
    for seed in range(3):
        torch.manual_seed(seed)
        model = LatentDiffusion(**config["model"]["params"])
        save_model_folder(model, config, tmp_path / str(seed), dtype=torch.float32)
    return [tmp_path / str(seed) for seed in range(3)]


@pytest.mark.slow
def test_every_tensor_is_the_mean_within_half_precision(folders, tmp_path, capsys):
    assert main(["average", *map(str, folders), "-o", str(tmp_path / "mean")]) == 0
    assert str(tmp_path / "mean") in capsys.readouterr().out
    states = [load_model(read_folder_config(folder)).state_dict() for folder in folders]
    mean = load_model(read_folder_config(tmp_path / "mean")).state_dict()
    for name, value in mean.items():
        expected = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(value.double(), expected, rtol=2**-10, atol=2**-24)


def test_models_without_a_mean_are_refused_and_nothing_is_written(folders, tmp_path):
    configs = [read_folder_config(folder) for folder in folders]
    with pytest.raises(InputError, match="at least two"):
        average_models(configs[:1], tmp_path / "mean")
    other = load_config("tiny")
    other["model"]["params"]["unet_config"]["params"]["use_global_encoder"] = False
    save_model_folder(LatentDiffusion(**other["model"]["params"]), other, tmp_path / "other")
    with pytest.raises(WeightsError, match="differ in their `model` section"):
        average_models([configs[0], read_folder_config(tmp_path / "other")], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
    with pytest.raises(InputError, match="exists already"):
        average_models(configs, folders[0])


@pytest.mark.slow
def test_the_encoder_can_be_that_of_the_first_model(folders, tmp_path):
    """Also where another model's encoder reads no profile."""
    first = read_folder_config(folders[0])
    params = first["model"]["params"]["unet_config"]["params"]
    params["global_encoder"] = {**params.get("global_encoder", {}), "profile": True}
    save_model_folder(load_model(first), first, tmp_path / "first", dtype=torch.float32)
    configs = [read_folder_config(folder) for folder in (tmp_path / "first", folders[1])]
    with pytest.raises(WeightsError, match="differ"):
        average_models(configs, tmp_path / "mean")
    average_models(configs, tmp_path / "mean", keep_encoder=True)
    one, other = (load_model(config).state_dict() for config in configs)
    mean = load_model(read_folder_config(tmp_path / "mean")).state_dict()
    for name, value in mean.items():
        kept = is_of_encoder(name)
        expected = one[name] if kept else (one[name].double() + other[name].double()) / 2
        torch.testing.assert_close(value.double(), expected.double(), rtol=2**-10, atol=2**-24)
