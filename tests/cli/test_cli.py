"""The command line as a stranger meets it: JSON on one stream, sentences on the other, exit 2."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch
from test_engine import make_folder

from lily.checkpoints.model_folder import save_model_folder
from lily.cli import main
from lily.config.presets import load_config
from lily.model.latent_diffusion import LatentDiffusion


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
    names = {"phone call.wav", "phone call.json"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names


def test_a_failed_check_ends_in_exit_code_1_and_keeps_the_file(
    folder, recording, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("lily.certify.output_meter.DC", -1.0)
    common = [str(recording), "--weights", str(folder), "--steps", "1"]
    assert main(["upsample", *common, "-o", str(tmp_path / "out")]) == 1
    assert "failed: dc, change" in capsys.readouterr().out
    output = tmp_path / "out" / "phone call.wav"
    assert soundfile.info(output).frames == 120_000
    assert main(["verify", str(output), "--against", str(recording)]) == 1
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    assert main(["upsample", str(bad), *common, "-o", str(tmp_path / "out2")]) == 2


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--weights", "/nowhere"], "no folder"),
        (["--preset", "lily-maxi"], "lily-mini"),
        (["--steps", "100000"], "steps"),
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


@pytest.mark.parametrize("extra", [["--device", "abacus"], ["--precision", "fp7"]])
def test_unknown_choices_are_refused_with_those_that_exist(recording, tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as stopped:
        main(["upsample", str(recording), "-o", str(tmp_path / "out"), *extra])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and extra[1] in error and "auto" in error
    assert not (tmp_path / "out").exists()


def test_two_inputs_with_one_name_are_refused_before_anything_runs(recording, tmp_path, capsys):
    twin = tmp_path / "phone call.flac"
    assert main(["upsample", str(recording), str(twin), "-o", str(tmp_path)]) == 2
    assert "phone call" in capsys.readouterr().err


def test_a_flac_that_had_to_become_a_wav_is_finished_too(folder, tmp_path, capsys):
    noise = torch.randn(1, 48_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "loud.wav"
    soundfile.write(path, (1.2 * noise / noise.abs().max()).T.numpy(), 48_000, subtype="FLOAT")
    arguments = ["upsample", path, "-o", tmp_path / "out", "--weights", folder, "--steps", "1"]
    arguments += ["--format", "flac", "--resume", "--cutoff", "4000"]
    assert main(list(map(str, arguments))) == 0
    result = tmp_path / "out/loud.wav"
    assert soundfile.info(result).subtype == "FLOAT"
    said = capsys.readouterr().out
    assert said.count("32-bit float WAV instead of a FLAC, as 24 bits cannot hold") == 1
    assert said.count("32-bit float") == 1 and "dBTP: the file is not clipped; lower it by" in said
    before = result.stat().st_mtime_ns
    assert main(list(map(str, arguments))) == 0
    assert "loud.wav exists already and is kept" in capsys.readouterr().err
    assert result.stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model whose conditioning has a say."""
    return make_folder(tmp_path_factory.mktemp("trained"))


@pytest.mark.slow
def test_compare_writes_what_upsample_writes_and_says_how_far_apart(
    trained, recording, tmp_path, capsys
):
    common = ["--weights", trained, "--seed", 5, "--steps", 2, "--json"]
    out = tmp_path / "both"
    reference = ["--reference", recording]
    assert main([str(a) for a in ["compare", recording, "-o", out, *common, *reference]]) == 0
    told = json.loads(capsys.readouterr().out)
    names = {f"phone call.{kind}" for kind in ("off.wav", "on.wav", "diff.wav", "json")}
    names |= {f"phone call.{kind}.png" for kind in ("off", "on", "diff")}
    names |= {f"phone call.{kind}.json" for kind in ("off", "on")}
    assert {p.name for p in out.iterdir()} == names | {"phone call.reference.wav"}
    assert told["seed"] == 5 and told["samples"] == 120_000
    assert len(told["chunks"]) > 1 and all(c["difference_db"] >= -60 for c in told["chunks"])
    assert told["distances"]["off"]["lsd_lf"] < told["distances"]["off"]["lsd_hf"]
    for encoder in ("off", "on"):
        alone = ["upsample", recording, "-o", tmp_path / encoder, *common, "--encoder", encoder]
        assert main([str(a) for a in alone]) == 0
        written = (tmp_path / encoder / "phone call.wav").read_bytes()
        assert written == (out / f"phone call.{encoder}.wav").read_bytes()


def test_a_comparison_with_a_failed_check_ends_in_exit_code_1(
    trained, recording, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("lily.certify.output_meter.DC", -1.0)
    arguments = ["compare", recording, "-o", tmp_path, "--weights", trained, "--steps", "1"]
    assert main([*map(str, arguments)]) == 1
    assert "phone call.on.wav: failed: dc, change" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_comparison_twice_writes_identical_files(trained, recording, tmp_path):
    for name in ("a", "b"):
        arguments = ["compare", recording, "-o", tmp_path / name, "--weights", trained, "--seed", 1]
        assert main([*map(str, arguments), "--steps", "1"]) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_comparing_with_an_untrained_encoder_says_why_not(folder, recording, tmp_path, capsys):
    arguments = ["compare", recording, "-o", tmp_path / "o", "--weights", folder]
    assert main(list(map(str, arguments))) == 2
    assert "nothing to compare" in capsys.readouterr().err


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
    monkeypatch.setattr("lily.evaluation.describe.PROFILE_SECONDS", (10, 60, 600))
    assert main(["info", "--preset", "tiny", "--profile", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["profile"]
    assert [row["seconds"] for row in rows] == [10, 60, 600]
    bounded = 4 * 1024 * 3 * 16  # queries, keys and values of 1,024 tokens, 16 wide, in float32
    assert all(0 < row["largest_activation_bytes"] <= bounded for row in rows)


def test_train_on_a_folder_without_audio_is_one_sentence(tmp_path, capsys):
    arguments = ["train", "--preset", "tiny", "--data", tmp_path, "--out", tmp_path / "run"]
    assert main(list(map(str, arguments))) == 2
    assert "holds no audio" in capsys.readouterr().err


def test_a_cutoff_that_makes_no_sense_is_told_with_what_does(capsys):
    for text in ("abc", "0:4000,5", "0:x"):
        with pytest.raises(SystemExit) as stopped:
            main(["upsample", "a.wav", "-o", "out", "--cutoff", text])
        assert stopped.value.code == 2
        assert "give Hz, such as 8000, or segments" in capsys.readouterr().err
