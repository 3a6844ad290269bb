"""Memory: what is predicted is what is alive, and one network at a time is on the device."""

from __future__ import annotations

import pytest
import torch
from test_benchmark import recording
from test_engine import make_folder

from lily.checkpoints.model_folder import read_folder_config
from lily.config.presets import load_config
from lily.inference.engine import InferenceEngine
from lily.inference.memory import GPU_ROWS, Residency, _Alive, fitting, predict
from lily.model.latent_diffusion import LatentDiffusion


@pytest.mark.parametrize("preset", ["tiny", "lily-mini"])
def test_the_prediction_is_what_real_tensors_take(preset, randn):
    config = load_config(preset)
    model = LatentDiffusion(**config["model"]["params"]).eval().requires_grad_(False)
    chunk, bins = config["inference"]["chunk"], model.first_stage_model.config.bins
    predicted = predict(config, torch.float32, rows=2)
    x, t = randn(4, 2 * model.channels, chunk, bins), torch.full((4,), 500.0)
    with torch.no_grad(), _Alive() as unet:
        model.unet(x, t)
    with torch.no_grad(), _Alive() as decode:
        model.decode(randn(2, model.channels, chunk, bins))
    assert predicted["unet"] == pytest.approx(unet.most, rel=0.1)
    assert predicted["vae_decode"] == pytest.approx(decode.most, rel=0.1)
    assert predicted["weights"] >= sum(4 * p.numel() for p in model.parameters())


def test_rows_and_precision_cost_what_they_should(tiny_config):
    one, four = (predict(tiny_config, torch.float32, rows) for rows in (1, 4))
    assert 2 < four["unet"] / one["unet"] <= 4  # what depends on no row is there once
    assert four["vocoder"] == one["vocoder"]  # a row a call, whatever the batch
    half = predict(tiny_config, torch.bfloat16)
    assert half["weights"] < 0.7 * one["weights"] and half["unet"] < one["unet"]


def test_one_network_alone_needs_less_than_all_and_more_than_its_own_tensors(tiny_config):
    whole, alone = (predict(tiny_config, torch.float32, alone=a) for a in (False, True))
    most = max(alone[name] for name in ("vae_encode", "unet", "vae_decode", "vocoder"))
    assert most < alone["peak"] < whole["peak"] == whole["weights"] + most


def test_a_run_tells_what_it_will_take_before_its_first_chunk(tiny_config, tmp_path, capsys):
    from lily.cli.progress import follow
    from lily.inference.events import Finished, Planned
    from lily.inference.options import UpsampleOptions

    folder = make_folder(tmp_path / "model")
    config = read_folder_config(folder)
    path = recording(tmp_path, 1.0)
    options = UpsampleOptions(seed=1, steps=1)
    for large, low_memory in ((True, False), (True, True), (False, False)):
        config["inference"] = {**config["inference"], "large": large}
        engine = InferenceEngine(config, device="cpu", precision="fp32", low_memory=low_memory)
        told = list(engine.stream(path, tmp_path / f"{large}{low_memory}", options))
        (planned,) = (event for event in told if isinstance(event, Planned))
        rows = engine.settings.batch
        need = predict(config, torch.float32, rows, alone=low_memory)["peak"] if large else None
        assert planned.memory == need
        assert isinstance(follow(iter(told), path), type(told[-1].result))
        assert isinstance(told[-1], Finished)
        assert ("tensors will take up to" in capsys.readouterr().err) == large


def test_rows_halve_until_they_fit(tiny_config):
    need = predict(tiny_config, torch.bfloat16, GPU_ROWS)["peak"]
    assert fitting(tiny_config, torch.bfloat16, 2 * need) == GPU_ROWS
    assert fitting(tiny_config, torch.bfloat16, need) < GPU_ROWS
    assert fitting(tiny_config, torch.bfloat16, 1) == 1


def test_one_network_at_a_time_is_resident_and_the_context_readers_stay(tiny_config, randn):
    model = LatentDiffusion(**tiny_config["model"]["params"]).eval().requires_grad_(False)
    moves: list[tuple[str, str]] = []

    class Watched(Residency):
        def _move(self, part, device):
            name = next(name for name, other in self._parts.items() if other is part)
            moves.append((name, "in" if device.type == "meta" else "out"))
            assert not set(part.modules()) <= self._kept

    resident = Watched(model, torch.device("cpu"))
    resident.device = torch.device("meta")
    moves.clear()
    low = model.low_posterior(randn(1, 128, 256)).mean
    for _ in range(3):
        model.predict_v(low, low, torch.tensor([5]))
    model.decode(low)
    assert moves == [
        ("vae_encode", "in"),
        ("vae_encode", "out"),
        ("unet", "in"),
        ("unet", "out"),
        ("vae_decode", "in"),
    ]


def test_low_memory_gives_the_same_samples_to_rounding(tmp_path):
    from lily.audio.read import read_audio

    path = recording(tmp_path, 2.0)
    made = []
    for low_memory in (False, True):
        engine = InferenceEngine(load_config("lily-mini"), device="cpu", low_memory=low_memory)
        result = engine.run_inference(path, tmp_path / str(low_memory), seed=3, steps=1)
        made.append(read_audio(result.output))
    torch.testing.assert_close(*made, rtol=0, atol=1e-4)  # other batches round otherwise
