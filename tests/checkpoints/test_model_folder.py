"""Strict loading: a folder is exactly what its configuration says, or one sentence says why not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import (
    check_tensors,
    encoder_is_trained,
    is_of_encoder,
    load_model,
    save_adapter_folder,
    save_model_folder,
)
from lily.checkpoints.resolve import encoder_note, resolve_config, with_weights
from lily.config.presets import load_config
from lily.errors import WeightsError
from lily.model.latent_diffusion import LatentDiffusion


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


@pytest.fixture
def pair(folder, tmp_path):
    """A base with no encoder at all, and an adapter that lies on it."""
    config = read_folder_config(folder)
    whole = load_model(config)
    for transformer in whole.unet.conditioned():
        torch.nn.init.normal_(transformer.global_out.weight)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    save_model_folder(whole, config, base, dtype=torch.float32)
    plain = {k: v for k, v in load_file(base / "model.safetensors").items() if not is_of_encoder(k)}
    save_file(plain, base / "model.safetensors")
    save_adapter_folder(whole, config, adapter, base_model=str(base), dtype=torch.float32)
    return whole, base, adapter


def test_a_base_and_an_adapter_make_the_whole_model(pair):
    whole, base, adapter = pair
    assert set(load_file(adapter / "model.safetensors")) == {
        key for key in whole.state_dict() if is_of_encoder(key)
    }
    config = with_weights(read_folder_config(adapter))
    state = load_model(config).state_dict()
    assert state.keys() == whole.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())
    assert encoder_is_trained(config) and not encoder_note(read_folder_config(adapter))


def test_the_note_on_an_adapters_encoder_asks_for_no_base(pair, tmp_path, monkeypatch):
    def fetch(*_):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("lily.checkpoints.hub.fetch", fetch)
    whole, *_ = pair
    for trained in (True, False):
        if not trained:
            for module in whole.unet.conditioned():
                torch.nn.init.zeros_(module.global_out.weight)
        folder = tmp_path / str(trained)
        save_adapter_folder(whole, load_config("tiny"), folder, base_model="owner/base")
        assert bool(encoder_note(read_folder_config(folder))) is not trained


def test_a_base_alone_has_an_encoder_that_changes_nothing_and_says_so(pair):
    _, base, _ = pair
    config = with_weights(read_folder_config(base))
    assert not load_model(config).encoder_is_trained
    assert "untrained" in encoder_note(config)


def test_a_trained_encoder_in_the_base_gives_way_to_the_adapters(folder, pair):
    whole, base, adapter = pair
    save_model_folder(load_model(read_folder_config(folder)), load_config("tiny"), base)
    state = load_model(with_weights(read_folder_config(adapter))).state_dict()
    key = next(key for key in state if key.endswith("global_out.weight"))
    assert torch.equal(state[key], whole.state_dict()[key])


@pytest.mark.parametrize("wrong", ["a tensor of the base", "half of the encoder"])
def test_an_adapter_holds_the_encoder_and_nothing_else(pair, wrong):
    _, _, adapter = pair
    path = adapter / "model.safetensors"
    good = load_file(path)
    first = sorted(good)[0]
    extra = {"scale_factor": torch.ones(())} if wrong == "a tensor of the base" else {}
    less = {key: value for key, value in good.items() if key != first or extra}
    save_file({**less, **extra}, path)
    said = "unknown tensors, first scale_factor" if extra else f"missing tensors, first {first}"
    with pytest.raises(WeightsError, match=f"adapter.*{said}"):
        load_model(with_weights(read_folder_config(adapter)))


def test_half_an_encoder_in_a_whole_model_is_no_base(folder):
    path = folder / "model.safetensors"
    good = load_file(path)
    first = next(key for key in sorted(good) if is_of_encoder(key))
    save_file({k: v for k, v in good.items() if k != first}, path)
    with pytest.raises(WeightsError, match=f"missing tensors, first {first}"):
        load(folder)


def test_an_adapter_on_an_adapter_or_on_nothing_is_refused(pair):
    _, base, adapter = pair
    facts = json.loads((adapter / "config.json").read_text())
    for name, said in ((str(adapter), "itself an adapter"), (str(base / "no"), "no folder")):
        (adapter / "config.json").write_text(json.dumps({**facts, "base_model": name}))
        with pytest.raises(WeightsError, match=said):
            with_weights(read_folder_config(adapter))


def test_a_refused_file_was_never_read_whole(folder, monkeypatch):
    path = folder / "model.safetensors"
    save_file({**load_file(path), "lora.up": torch.zeros(1)}, path)
    monkeypatch.setattr(
        "lily.checkpoints.model_folder.load_file", lambda _path: pytest.fail("read the data")
    )
    with pytest.raises(WeightsError, match="unknown tensors, first lora.up"):
        load(folder)


@pytest.mark.parametrize("facts", [[], {}, {"lily_format": 1}, {"lily_format": 1, "model": 3}])
def test_a_config_of_something_else_is_one_sentence(folder, facts):
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(WeightsError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_a_value_that_half_precision_cannot_hold_is_refused_and_nothing_written(tmp_path, value):
    config = load_config("tiny")
    model = LatentDiffusion(**config["model"]["params"])
    with torch.no_grad():
        next(p for p in model.parameters() if p.ndim > 1).view(-1)[0] = value
    with pytest.raises(WeightsError, match="do not fit torch.float16"):
        save_model_folder(model, config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_full_disk_leaves_the_old_weights_and_no_part_of_new_ones(folder, monkeypatch):
    def full(_state, path, **_more):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model, config = load(folder), read_folder_config(folder)
    monkeypatch.setattr("lily.checkpoints.model_folder.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_model_folder(model, config, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_whole_model_saved_with_an_adapters_configuration_loads_alone(pair, tmp_path):
    config = with_weights(read_folder_config(pair[2]))
    save_model_folder(load_model(config), config, tmp_path / "whole", dtype=torch.float32)
    assert "base_model" not in read_folder_config(tmp_path / "whole")
    whole, expected = load(tmp_path / "whole").state_dict(), load_model(config).state_dict()
    assert all(torch.equal(whole[key], expected[key]) for key in expected)


@pytest.mark.parametrize("text", ["[" * 100_000, "\ud800", "", "3"])
def test_a_config_that_is_no_configuration_is_one_sentence(folder, text):
    (folder / "config.json").write_text(text, errors="surrogatepass")
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_folder_config(folder)


@pytest.mark.parametrize("name", ["a" * 5_000, "a/" + "b" * 300, "a\0b", ""])
def test_a_name_that_can_be_no_path_is_one_sentence(name):
    with pytest.raises(WeightsError) as caught:
        resolve_config(weights=name)
    assert caught.type is WeightsError


def test_an_encoder_of_an_earlier_version_is_refused_with_advice(tmp_path):
    shapes = {"model.diffusion_model.global_encoder.convolutions.0.weight": (32, 1, 8, 3)}
    with pytest.raises(WeightsError, match="earlier Lily.*distil_encoder"):
        check_tensors(shapes, {}, tmp_path / "model.safetensors")
