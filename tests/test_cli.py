"""The command line as a stranger meets it: JSON on one stream, sentences on the other, exit 2."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch

from lily.cli import main
from lily.config import load_config
from lily.model.latent_diffusion import LatentDiffusion
from lily.weights import save_model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    config = load_config("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model_folder(LatentDiffusion(**config["model"]["params"]), config, path)
    return path


@pytest.fixture
def recording(tmp_path):
    samples = 0.1 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "phone call.wav"
    soundfile.write(path, samples.T.numpy(), 8_000)
    return path


def test_upsample_prints_one_json_object_a_file(folder, recording, tmp_path, capsys):
    arguments = ["upsample", recording, "-o", tmp_path / "out", "--weights", folder]
    assert main([*map(str, arguments), "--seed", "5", "--steps", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sample_rate"] == 48_000 and facts["samples"] == 120_000
    assert facts["channels"] == 2 and facts["seed"] == 5 and facts["encoder"] == "on"
    assert {"output", "cutoff_hz", "chunks", "real_time_factor", "model"} <= facts.keys()
    assert soundfile.info(facts["output"]).frames == 120_000


def test_a_bad_file_among_good_ones_costs_only_itself(folder, recording, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    arguments = ["upsample", bad, recording, "-o", tmp_path / "out", "--weights", folder]
    assert main([*map(str, arguments), "--steps", "1", "--json"]) == 2
    streams = capsys.readouterr()
    assert "bad.wav" in streams.err and "Traceback" not in streams.err
    assert json.loads(streams.out)["samples"] == 120_000
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["phone call.wav"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--weights", "/nowhere"], "no folder"),
        (["--preset", "lily-maxi"], "lily-mini"),
        (["--steps", "100000"], "steps"),
        (["--device", "abacus"], "abacus"),
        (["--precision", "fp7"], "fp7"),
    ],
)
def test_wrong_options_end_in_a_sentence_and_exit_2(
    folder, recording, tmp_path, capsys, extra, said
):
    arguments = ["upsample", str(recording), "-o", str(tmp_path / "out")]
    weights = [] if "--weights" in extra or "--preset" in extra else ["--weights", str(folder)]
    assert main([*arguments, *weights, *extra]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_two_inputs_with_one_name_are_refused_before_anything_runs(recording, tmp_path, capsys):
    twin = tmp_path / "phone call.flac"
    assert main(["upsample", str(recording), str(twin), "-o", str(tmp_path)]) == 2
    assert "phone call" in capsys.readouterr().err


def test_info_reports_the_design_counts(capsys):
    assert main(["info", "--preset", "audiosr-basic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == {
        "unet_base": 258_195_088,
        "encoder": 549_280,
        "conditioning": 29_152_000,
        "encoder_total": 29_701_280,
        "unet": 287_896_368,
        "vae": 223_535_569,
        "vocoder": 190_281_889,
    }


def test_info_profiles_the_encoder_with_bounded_memory(monkeypatch, capsys):
    monkeypatch.setattr("lily.info.PROFILE_SECONDS", (10, 60))
    assert main(["info", "--preset", "tiny", "--profile", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["profile"]
    assert [row["seconds"] for row in rows] == [10, 60]
    assert rows[0]["largest_activation_bytes"] == rows[1]["largest_activation_bytes"]


def test_train_on_a_folder_without_audio_is_one_sentence(tmp_path, capsys):
    arguments = ["train", "--preset", "tiny", "--data", tmp_path, "--out", tmp_path / "run"]
    assert main(list(map(str, arguments))) == 2
    assert "holds no audio" in capsys.readouterr().err
