"""Conversion of AudioSR's checkpoints: every tensor accounted for, code never run, or no folder."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lily.checkpoints.convert_audiosr import SCHEDULE, account_for, examine, folded, write_folder
from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import expected_tensors, is_of_encoder, load_model
from lily.checkpoints.reader import open_checkpoint
from lily.cli import main
from lily.config.presets import load_config
from lily.errors import WeightsError
from lily.model.latent_diffusion import LatentDiffusion

# The 3,236 tensors of the reference model, in its order: name, tab, shape; made by golden/make.py.
TENSORS = Path(__file__).parents[1] / "golden" / "audiosr_tensors.tsv"


def reference_shapes() -> dict[str, tuple[int, ...]]:
    lines = (line.split("\t") for line in TENSORS.read_text().splitlines())
    return {name: tuple(map(int, shape.split("x"))) if shape else () for name, shape in lines}


def full_size() -> dict[str, tuple[int, ...]]:
    expected = expected_tensors(load_config("audiosr-basic"))
    return {key: tuple(value.shape) for key, value in expected.items()}


def as_audiosr(seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint of the tiny preset as AudioSR saves its own: two VAEs, an EMA copy, CLAP."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = LatentDiffusion(**load_config("tiny")["model"]["params"]).state_dict()
        state["scale_factor"] = torch.tensor(0.3017)
    state = {key: value.clone() for key, value in state.items() if not is_of_encoder(key)}
    for key, value in list(state.items()):
        if key.startswith("first_stage_model."):
            state[key.replace("first_stage_model", "cond_stage_models.0.vae")] = value.clone()
        if key.startswith("model."):
            state["model_ema." + key[len("model.") :].replace(".", "")] = value + 1
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    state |= {name: torch.zeros(1000) for name in SCHEDULE}
    return {**state, "clap.model.logit_scale_a": torch.tensor(1.0)}


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "global_step": 5}, path)
    return path


def convert(path: Path, folder: Path, dtype: torch.dtype = torch.float32, ema: bool = False):
    config = load_config("tiny")
    checkpoint, account = examine(path, config, ema)
    return write_folder(checkpoint, account, config, folder, dtype)


# ---- the full-size model, on the meta device -----------------------------------------------------


def test_each_of_the_references_3236_tensors_is_accounted_for():
    shapes = reference_shapes()
    assert len(shapes) == 3_236
    shapes |= {"clap.model.text_projection.0.weight": (512, 768), "clap.model.logit_scale_a": ()}
    account = account_for(shapes, full_size())
    account.refuse_problems(TENSORS)
    assert len(account.used) == 1_104 + 506 + 1
    assert {kind: len(names) for kind, names in account.unneeded.items()} == {
        "EMA copy of the U-Net": 1_106,
        "second VAE, bit-equal": 506,
        "schedule, from a formula": 13,
        "CLAP, a text model": 2,
    }
    rows = {kind: (tensors, parameters) for kind, tensors, parameters in account.rows(shapes)}
    assert rows["used"] == (1_611, 258_195_088 + 223_535_569 + 190_281_889 + 1)
    assert sum(tensors for tensors, _ in rows.values()) == len(shapes)


def test_the_ema_copy_fills_the_same_u_net():
    shapes, expected = reference_shapes(), full_size()
    account = account_for(shapes, expected, ema=True)
    account.refuse_problems(TENSORS)
    averaged = {key for key, (name,) in account.used.items() if name.startswith("model_ema.")}
    assert averaged == {key for key in account.used if key.startswith("model.")}
    assert len(averaged) == 1_104 == len(account.unneeded["U-Net as trained"])


def test_one_tensor_too_few_too_many_or_of_another_shape_is_named():
    expected, gone = full_size(), "model.diffusion_model.out.2.weight"
    for change, said in (
        (lambda shapes: shapes.pop(gone), f"1 missing tensors: {gone}"),
        (lambda shapes: shapes.update({"lora.up": (3,)}), "1 unknown tensors: lora.up"),
        (lambda shapes: shapes.update({gone: (3,)}), r"misshapen tensors: .* is \(3,\), expected"),
        (lambda shapes: shapes.update({"model_ema.extra": (3,)}), "unknown tensors: model_ema.ex"),
    ):
        shapes = reference_shapes()
        change(shapes)
        with pytest.raises(WeightsError, match=said):
            account_for(shapes, expected).refuse_problems(TENSORS)


# ---- a small one, for real -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".safetensors"])
def test_a_converted_folder_loads_strictly_and_to_the_same_bits(tmp_path, suffix):
    state = as_audiosr()
    folder = convert(save(tmp_path / f"pytorch_model{suffix}", state), tmp_path / "mine")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in saved.items())
    config = read_folder_config(folder)
    assert config["name"] == "mine" and config["model"]["params"]["scale_lowpass"]
    loaded = load_model(config).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())
    assert saved.keys() == {key for key in loaded if not is_of_encoder(key)}


def test_an_absent_encoder_starts_neutral_and_always_the_same(tmp_path):
    folder = convert(save(tmp_path / "a.bin", as_audiosr()), tmp_path / "mine")
    first, second = (load_model(read_folder_config(folder)) for _ in range(2))
    assert not first.encoder_is_trained
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_part_of_an_encoder_is_an_error(tmp_path):
    state = as_audiosr()
    state["model.diffusion_model.global_encoder.norms.0.weight"] = torch.ones(4)
    with pytest.raises(WeightsError, match="missing tensors: .*global"):
        convert(save(tmp_path / "a.safetensors", state), tmp_path / "mine")


def test_ema_exports_the_averaged_u_net_and_nothing_else_of_it(tmp_path):
    state = as_audiosr()
    folder = convert(save(tmp_path / "a.bin", state), tmp_path / "mine", ema=True)
    for key, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(value, state[key] + 1 if key.startswith("model.") else state[key])
    assert "averaged" in (folder / "README.md").read_text()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_all_but_the_scale(tmp_path, dtype):
    state = as_audiosr()
    folder = convert(save(tmp_path / "a.bin", state), tmp_path / "mine", dtype)
    for key, value in load_file(folder / "model.safetensors").items():
        kept = torch.float32 if key == "scale_factor" else dtype
        assert value.dtype == kept and torch.equal(value, state[key].to(kept))


def test_a_value_that_does_not_fit_the_precision_is_an_error(tmp_path):
    state = as_audiosr()
    state["first_stage_model.quant_conv.bias"][0] = 1e6
    state["cond_stage_models.0.vae.quant_conv.bias"][0] = 1e6
    path = save(tmp_path / "a.bin", state)
    with pytest.raises(WeightsError, match=r"quant_conv\.bias.*bf16"):
        convert(path, tmp_path / "mine", torch.float16)
    assert not (tmp_path / "mine").exists()
    convert(path, tmp_path / "mine", torch.bfloat16)


def test_weight_norm_pairs_are_folded_as_torch_folds_them(tmp_path):
    layer = torch.nn.ConvTranspose1d(6, 3, 4)
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(6, 3, 4))
    pair = normed.parametrizations.weight
    pair.original0.data.mul_(1.7)
    assert layer.weight.shape == pair.original1.shape
    ours = folded(pair.original0.detach(), pair.original1.detach())
    torch.testing.assert_close(ours, normed.weight.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "names", [("weight_g", "weight_v"), tuple(f"parametrizations.weight.original{i}" for i in "01")]
)
def test_a_checkpoint_with_weight_norm_pairs_converts_to_what_they_mean(tmp_path, names):
    state = as_audiosr()
    want = {}
    vocoder = [key for key in state if key.startswith("first_stage_model.vocoder.")]
    # Weight normalisation cannot hold a weight that starts at zero.
    for key in [key for key in vocoder if state[key].ndim == 3 and state[key].any()]:
        want[key] = state[key]
        for prefix in ("first_stage_model", "cond_stage_models.0.vae"):
            v = state.pop(key.replace("first_stage_model", prefix))
            stem = key.replace("first_stage_model", prefix).removesuffix("weight")
            length = torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)
            state[stem + names[0]], state[stem + names[1]] = length, 3 * v
    assert want
    folder = convert(save(tmp_path / "a.bin", state), tmp_path / "mine")
    saved = load_file(folder / "model.safetensors")
    for key, value in want.items():
        torch.testing.assert_close(saved[key], value, rtol=1e-6, atol=1e-7)


# ---- what is refused -----------------------------------------------------------------------------


def test_a_second_vae_that_differs_in_one_bit_is_an_error(tmp_path):
    state = as_audiosr()
    second = state["cond_stage_models.0.vae.decoder.conv_in.weight"].view(torch.int32)
    second.view(-1)[0] ^= 1
    with pytest.raises(WeightsError, match="not bit-equal"):
        convert(save(tmp_path / "a.bin", state), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_checkpoint_without_second_vae_ema_or_clap_converts(tmp_path):
    needed = ("model.", "first_stage_model.", "scale_factor")
    state = {key: value for key, value in as_audiosr().items() if key.startswith(needed)}
    convert(save(tmp_path / "a.safetensors", state), tmp_path / "mine")
    with pytest.raises(WeightsError, match="missing"):
        convert(tmp_path / "a.safetensors", tmp_path / "averaged", ema=True)


class Trap:
    """Makes a folder when it is unpickled by a plain load."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.mkdir, (self.path,))


@pytest.mark.parametrize("form", ["zip", "before torch 1.6", "plain"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path, form):
    path, sprung = tmp_path / "pytorch_model.bin", tmp_path / "sprung"
    crafted = {"state_dict": as_audiosr(), "callbacks": Trap(sprung)}
    if form == "plain":
        path.write_bytes(pickle.dumps(crafted, protocol=2))
    else:
        torch.save(crafted, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin is refused.*never code"):
        open_checkpoint(path)
    assert not sprung.exists()
    if form == "plain":  # the trap is a real one
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert sprung.exists()


def test_a_checkpoint_from_before_torch_1_6_converts(tmp_path):
    path = tmp_path / "old.bin"
    torch.save({"state_dict": as_audiosr()}, path, _use_new_zipfile_serialization=False)
    convert(path, tmp_path / "mine")


def test_damage_and_strangers_are_one_sentence_with_the_file_in_it(tmp_path):
    whole = save(tmp_path / "whole.safetensors", as_audiosr()).read_bytes()
    packed = save(tmp_path / "whole.bin", as_audiosr()).read_bytes()
    for name, content in {
        "half.safetensors": whole[: len(whole) // 2],
        "head.safetensors": whole[:50],
        "none.safetensors": b"",
        "half.bin": packed[: len(packed) // 2],
        "none.bin": b"",
        "text.ckpt": b"not a pickle at all",
        "notes.txt": b"text",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            open_checkpoint(tmp_path / name)
    torch.save({"state_dict": {"a": 3}}, tmp_path / "numbers.bin")
    torch.save([torch.zeros(1)], tmp_path / "list.bin")
    for name in ("numbers.bin", "list.bin"):
        with pytest.raises(WeightsError, match=f"{name} is not a checkpoint"):
            open_checkpoint(tmp_path / name)
    lora = save(tmp_path / "lora.safetensors", {"lora_up.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"lora\.safetensors is not an AudioSR.*lora_up"):
        convert(lora, tmp_path / "mine")
    for path in (tmp_path, tmp_path / "nothing.bin"):
        with pytest.raises(WeightsError, match="not a file"):
            open_checkpoint(path)


@pytest.mark.parametrize("ending", ["bin", "old.bin", "safetensors"])
def test_mutated_checkpoints_are_read_or_refused_but_nothing_else(tmp_path, ending):
    generator = np.random.default_rng(4)
    tensors = {f"a.{number}": torch.ones(3, 4) for number in range(3)}
    whole = tmp_path / f"whole.{ending}"
    if ending == "safetensors":
        save_file(tensors, whole)
    else:
        torch.save(tensors, whole, _use_new_zipfile_serialization=ending == "bin")
    data, path = whole.read_bytes(), tmp_path / f"a.{ending}"
    for _ in range(150):
        changed = bytearray(data[: int(generator.integers(1, len(data)))])
        if generator.random() < 0.7:
            changed = bytearray(data)
            for place in generator.integers(0, len(data), 4):
                changed[place] = int(generator.integers(256))
        path.write_bytes(changed)
        with contextlib.suppress(WeightsError):
            opened = open_checkpoint(path)
            assert all(opened.read(name).shape == shape for name, shape in opened.shapes.items())


def test_nothing_is_left_where_writing_failed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = save(tmp_path / "a.bin", as_audiosr())
    monkeypatch.setattr("lily.checkpoints.convert_audiosr.write_config", full)
    with pytest.raises(OSError):
        convert(path, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_what_is_there_is_never_overwritten(tmp_path):
    path = save(tmp_path / "a.bin", as_audiosr())
    convert(path, tmp_path / "mine")
    with pytest.raises(WeightsError, match="not empty"):
        convert(path, tmp_path / "mine")


def test_the_command_prints_the_account_and_ends_in_0_or_2(tmp_path, capsys):
    state = as_audiosr()
    arguments = ["convert", "--preset", "tiny", "--dtype", "fp16"]
    good = save(tmp_path / "pytorch_model.bin", state)
    assert main([*arguments, str(good), "-o", str(tmp_path / "mine")]) == 0
    streams = capsys.readouterr()
    assert str(tmp_path / "mine") in streams.out
    for kind in ("used", "EMA copy", "CLAP", "second VAE", "schedule", "unknown", "missing"):
        assert kind in streams.err
    bad = save(tmp_path / "bad.bin", {**state, "stranger": torch.zeros(2)})
    assert main([*arguments, str(bad), "-o", str(tmp_path / "other")]) == 2
    streams = capsys.readouterr()
    assert "stranger" in streams.err and "Traceback" not in streams.err
    assert not (tmp_path / "other").exists()
