"""Strict loading: a folder is exactly what its configuration says, or one sentence says why not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lily.config import load_config
from lily.errors import WeightsError
from lily.model.latent_diffusion import LatentDiffusion
from lily.resolve import with_weights
from lily.weights import load_model, read_folder_config, save_model_folder


@pytest.fixture
def folder(tmp_path):
    config = load_config("tiny")
    save_model_folder(LatentDiffusion(**config["model"]["params"]), config, tmp_path / "model")
    return tmp_path / "model"


def load(folder):
    return load_model(read_folder_config(folder))


def test_a_saved_folder_loads_to_the_same_tensors(folder):
    model = load(folder)
    saved = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[k], saved[k].float()) for k in saved)
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_the_bundled_model_fits_its_preset_and_its_size():
    model = load_model(with_weights(load_config("lily-mini")))
    assert sum(p.numel() for p in model.parameters()) <= 16_000_000
    assert model.encoder_is_trained


def test_missing_unknown_and_misshapen_tensors_are_named(folder):
    path = folder / "model.safetensors"
    good = load_file(path)
    first = sorted(good)[0]
    for change, said in (
        ({k: v for k, v in good.items() if k != first}, "missing"),
        ({**good, "lora.up": torch.zeros(1)}, "unknown"),
        ({**good, first: torch.zeros(3, 3)}, "misshapen"),
    ):
        save_file(change, path)
        with pytest.raises(WeightsError, match=said):
            load(folder)


def test_damage_is_one_sentence(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(WeightsError, match="model.safetensors"):
            load(folder)
    path.unlink()
    with pytest.raises(WeightsError):
        load(folder)


def test_a_folder_of_another_format_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "lily_format": 99}))
    with pytest.raises(WeightsError, match="99"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match="no config.json"):
        load(folder)
