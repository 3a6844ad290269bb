"""Laws of ``upsample --resume`` where an output is finished: kept as asked for, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from test_engine import band_limited, make_folder, write

from lily.checkpoints.folder_config import weights_sha256
from lily.cli import main
from lily.config.inference import InferenceConfig
from lily.config.sections import build
from lily.inference.borrowed import context_sha256
from lily.inference.profiles import with_defaults

COMMON = ["--steps", "2", "--seed", "5", "--cutoff", "4000"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory) -> Path:
    """A folder with a recording and its output in ``out``."""
    folder = tmp_path_factory.mktemp("made")
    write(folder / "a.wav", band_limited(0.5, 3_900.0, seed=1))
    assert upsample(folder, model, *COMMON) == 0
    return folder


def upsample(folder: Path, model: Path, *extra: str, name: str = "a.wav") -> int:
    arguments = ["upsample", folder / name, "-o", folder / "out", "--weights", model, "--resume"]
    return main([*map(str, arguments), *extra])


def with_defaults_only(options, config):
    """In place of ``completed``, which refuses a context for the tiny model."""
    return with_defaults(options, build(InferenceConfig, config["inference"], "inference"), seed=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("same", [COMMON, COMMON[:2] + COMMON[4:], [*COMMON, "--sampler", "ddim"]])
def test_a_finished_output_of_the_same_settings_is_kept(made, model, capsys, same):
    """The seed may be left out, and a default may be given."""
    stored = json.loads((made / "out" / "a.json").read_text())["settings"]
    if "--sampler" in same:
        same = [*same[:-1], stored["sampler"]]
    before = contents(made)
    assert upsample(made, model, *same) == 0
    assert "exists already and is kept" in capsys.readouterr().err
    assert contents(made) == before


def test_one_that_failed_a_check_is_kept_and_ends_in_exit_code_1(made, model, tmp_path, capsys):
    shutil.copytree(made / "out", tmp_path / "out")
    shutil.copy(made / "a.wav", tmp_path / "a.wav")
    stored = tmp_path / "out" / "a.json"
    facts = json.loads(stored.read_text())
    facts["measurements"]["dc_change"] = 0.5
    stored.write_text(json.dumps(facts))
    before = contents(tmp_path)
    assert upsample(tmp_path, model, *COMMON) == 1
    assert "a.wav exists already and is kept, though it failed: dc, change." in (
        capsys.readouterr().err
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--steps", "3"], "steps 2, not 3"),
        (["--seed", "6"], "seed 5, not 6"),
        (["--encoder", "off"], "encoder on, not off"),
        (["--cutoff", "3000"], "the cutoff 4000, not 3000"),
        (["--cutoff", "0:4000,0.2:3000"], "the cutoff 4000, not 0:4000,0.2:3000"),
        (["--wall", "15000"], "wall none, not 15000"),
        (["--brightness", "2"], "brightness none, not 2"),
        (["--guidance", "2"], "guidance 1.5, not 2"),
        (["--takes", "0.1:9"], "takes none, not 0.1:9"),
        (["--temporal-shape", "off"], "temporal shape on, not off"),
        (["--precision", "bf16"], "precision float32, not bfloat16"),
        (["--steps", "3", "--seed", "6"], "steps 2, not 3 and seed 5, not 6"),
    ],
)
def test_one_of_other_settings_is_refused_and_kept(made, model, capsys, asked, said):
    before = contents(made)
    assert upsample(made, model, *COMMON, *asked) == 2
    error = capsys.readouterr().err
    assert f"a.wav exists already and has {said}; give" in error
    assert error.count("\n") == 1
    assert contents(made) == before


def test_a_detected_cutoff_is_another_than_a_given_one(made, model, capsys):
    assert upsample(made, model, *COMMON[:4]) == 2
    assert "has the cutoff 4000, not detected" in capsys.readouterr().err


def test_other_weights_of_the_same_name_are_refused(made, tmp_path, capsys):
    other = make_folder(tmp_path / "other", seed=7)
    assert upsample(made, other, *COMMON) == 2
    error = capsys.readouterr().err
    stored = json.loads((made / "out" / "a.json").read_text())["settings"]["weights_sha256"][0]
    (given,) = weights_sha256({"weights": {"folder": str(other)}})
    assert f"has the weights {stored[:8]}, not {given[:8]} (SHA-256); give" in error


def test_the_output_of_another_recording_is_refused_and_kept(made, model, tmp_path, capsys):
    """Two recordings of one name, as of two folders."""
    shutil.copytree(made / "out", tmp_path / "out")
    write(tmp_path / "a.wav", band_limited(0.5, 3_900.0, seed=2))
    before = contents(tmp_path)
    assert upsample(tmp_path, model, *COMMON) == 2
    error = capsys.readouterr().err
    assert "a.wav exists already and was made of another recording than" in error
    assert error.count("\n") == 1
    assert contents(tmp_path) == before


def test_hashes_are_computed_once_a_run(made, model, tmp_path, monkeypatch):
    shutil.copytree(made / "out", tmp_path / "out")
    for name in ("a", "b"):
        shutil.copy(made / "a.wav", tmp_path / f"{name}.wav")
    for ending in ("wav", "json"):
        shutil.copy(tmp_path / "out" / f"a.{ending}", tmp_path / "out" / f"b.{ending}")
    calls = []
    monkeypatch.setattr(
        "lily.cli.finished.weights_sha256", lambda config: calls.append(1) or weights_sha256(config)
    )
    files = [tmp_path / "a.wav", tmp_path / "b.wav", "-o", tmp_path / "out"]
    arguments = ["upsample", *files, "--weights", model, "--resume", *COMMON]
    assert main([*map(str, arguments)]) == 0
    assert len(calls) == 1


def test_a_context_is_shown_by_its_name_and_hash(made, model, tmp_path, monkeypatch, capsys):
    shutil.copytree(made / "out", tmp_path / "out")
    shutil.copy(made / "a.wav", tmp_path / "a.wav")
    borrowed = context_sha256(write(tmp_path / "song.wav", band_limited(0.5, 9_000.0, seed=3)))
    stored = tmp_path / "out" / "a.json"
    facts = json.loads(stored.read_text())
    facts["settings"]["context_sha256"] = ["0123456789abcdef"]
    stored.write_text(json.dumps(facts))
    monkeypatch.setattr("lily.cli.finished.completed", with_defaults_only)
    context = ["--context", str(tmp_path / "song.wav")]
    assert upsample(tmp_path, model, *COMMON, *context) == 2
    error = capsys.readouterr().err
    assert f"has the context 01234567, not song.wav ({borrowed[:8]}); give" in error


def test_a_brightness_of_0_db_is_none(made, model):
    assert upsample(made, model, *COMMON, "--brightness", "0") == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("cutoffs"),
        lambda facts: facts.update(cutoffs=[]),
        lambda facts: facts.update(cutoffs=[[0.0, 0.0]]),
        lambda facts: facts["settings"].update(takes=[1]),
        lambda facts: facts.pop("input"),
    ],
)
def test_an_output_with_a_wrong_entry_in_its_metadata_is_not_finished(
    made, model, tmp_path, capsys, damage
):
    shutil.copytree(made / "out", tmp_path / "out")
    shutil.copy(made / "a.wav", tmp_path / "a.wav")
    stored = tmp_path / "out" / "a.json"
    facts = json.loads(stored.read_text())
    damage(facts)
    stored.write_text(json.dumps(facts))
    before = contents(tmp_path)
    assert upsample(tmp_path, model, *COMMON) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_damaged_metadata_belongs_to_no_finished_output(made, model, tmp_path, capsys):
    for text in ("[]", "{", '{"output": 3, "settings": []}', '{"settings": {}}'):
        folder = tmp_path / str(abs(hash(text)))
        (folder / "out").mkdir(parents=True)
        soundfile.write(folder / "a.wav", torch.zeros(960).numpy(), 48_000)
        (folder / "out" / "a.wav").write_text("precious")
        (folder / "out" / "a.json").write_text(text)
        assert upsample(folder, model, *COMMON) == 2
        assert "exists already and is not overwritten" in capsys.readouterr().err
        assert (folder / "out" / "a.wav").read_text() == "precious"


def test_a_copy_of_a_full_recording_is_the_same_whatever_the_other_settings(
    model, tmp_path, capsys
):
    write(tmp_path / "a.wav", 0.1 * torch.randn(1, 48_000))
    assert upsample(tmp_path, model, "--steps", "2") == 0
    assert upsample(tmp_path, model, "--steps", "3") == 0
    assert upsample(tmp_path, model, "--cutoff", "9000") == 2
    assert "has the cutoff detected, not 9000" in capsys.readouterr().err
