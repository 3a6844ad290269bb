"""Laws of training: sources never cross the split, a stopped run continues to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import is_of_encoder, load_model, read_tensors, save_model_folder
from lily.checkpoints.resolve import with_weights
from lily.cli import main
from lily.config.presets import load_config, mel_config
from lily.config.training import STAGES, training_config
from lily.dsp.mel import LOG_FLOOR
from lily.errors import InputError, TrainingError
from lily.training.dataset import plan_albums
from lily.training.loop import read_checkpoint
from lily.training.losses import POWER_FLOOR, RESOLUTIONS, energy_distance, log_spectra
from lily.training.parallel import World, launched_precision
from lily.training.recordings import find_recordings, split_by_source
from lily.training.request import shortened
from lily.training.train import _build, prepare, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Four sources of noise bursts, and one file that is not audio."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(0)
    for name in ("a__1", "a__2", "b__1", "c__1", "d__1"):
        samples = 0.2 * torch.randn(1, 80_000, generator=generator)
        samples *= torch.linspace(0.1, 1, 80_000)
        soundfile.write(folder / f"{name}.flac", samples.T.numpy(), 48_000)
    (folder / "broken__0.wav").write_bytes(b"RIFF not audio")
    return folder


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory) -> Path:
    """The corpus degraded and analysed once, for every run of this file to start from."""
    folder, config = tmp_path_factory.mktemp("prepared"), load_config("tiny")
    recipe = training_config(config["training"])
    mel = mel_config(config["preprocessing"])
    list(prepare(corpus, folder, recipe, mel, World(), workers=1))
    return folder


@pytest.fixture
def new_run(prepared, tmp_path):
    """Make run folders whose cache is already filled."""

    def make(name: str = "run") -> Path:
        return Path(shutil.copytree(prepared, tmp_path / name))

    return make


def test_no_source_is_in_both_parts(corpus):
    recordings = find_recordings(corpus)
    training, validation = split_by_source(recordings, 0.3, seed=1)
    assert validation and training
    assert not {r.source for r in training} & {r.source for r in validation}
    assert len(training) + len(validation) == len(recordings)


def test_albums_join_every_recording_of_a_source_once_and_anew_each_time(corpus):
    recordings = find_recordings(corpus)
    seconds = {r.key: 5.0 for r in recordings if r.source != "broken"}
    albums = [plan_albums(recordings, seconds, v, 0, (6.0, 12.0)) for v in (0, 1, 0)]
    for planned in albums:
        keys = [key for album in planned for key in album.parts]
        assert sorted(keys) == sorted(seconds)
        sources = {r.key: r.source for r in recordings}
        assert all({sources[k] for k in a.parts} == {a.source} for a in planned)
    assert albums[0] == albums[2]
    assert {a.key for a in albums[0]}.isdisjoint(a.key for a in albums[1])


def test_named_sources_are_held_out_and_no_other(corpus):
    training, validation = split_by_source(find_recordings(corpus), 0.3, 1, named=("b", "d"))
    assert {r.source for r in validation} == {"b", "d"}
    assert {r.source for r in training} == {"a", "c", "broken"}


def test_mixed_albums_have_a_second_layer_of_one_other_source(corpus):
    recordings = find_recordings(corpus)
    seconds, sources = {r.key: 5.0 for r in recordings}, {r.key: r.source for r in recordings}
    plain = plan_albums(recordings, seconds, 0, 0, (6.0, 12.0))
    mixed = plan_albums(recordings, seconds, 0, 0, (6.0, 12.0), mixed=1.0)
    assert not any(album.under for album in plain)
    for album in mixed:
        assert len({sources[key] for key in album.under}) == 1
        assert album.source not in {sources[key] for key in album.under}
        assert len(album.under) >= min(len(album.parts), 1)


def test_an_empty_or_missing_folder_is_one_sentence(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError):
            find_recordings(folder)


@pytest.mark.slow
def test_all_stages_run_and_export_a_folder_that_loads(corpus, tmp_path):
    out = tmp_path / "run"  # the one run here that prepares for itself
    events = list(train(load_config("tiny"), corpus, out))
    stages = [e.stage for e in events]
    expected = {
        "decode",
        "press",
        "autoencoder",
        "vocoder",
        "carriers",
        "encode",
        "diffusion",
        "finish",
        "encoder",
        "export",
    }
    assert expected == set(stages)
    assert all(torch.isfinite(torch.tensor(v)) for e in events for v in e.figures.values())
    model = load_model(read_folder_config(out / "model"))
    assert model.scale_factor != 1
    assert model.encoder_is_trained
    split = json.loads((out / "split.json").read_text())
    assert not set(split["training"]) & set(split["validation"])


@pytest.mark.slow
def test_a_resumed_run_gives_the_bits_of_one_never_stopped(corpus, new_run, monkeypatch):
    whole, halves = new_run("whole"), new_run("halves")
    config = load_config("tiny")
    list(train(config, corpus, whole))
    # Save at every step, and stop in the middle of each stage.
    monkeypatch.setattr("lily.training.loop.CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr("lily.training.loop.REPORT_STEPS", 1)
    for stop in STAGES:
        run = train(config, corpus, halves, resume=True)
        for event in run:
            if event.stage == stop and event.done == 2:
                run.close()
                break
    list(train(config, corpus, halves, resume=True))
    a = read_tensors(whole / "model" / "model.safetensors")
    b = read_tensors(halves / "model" / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(corpus, new_run):
    figures, config = {}, load_config("tiny")
    for precision in (torch.float32, torch.bfloat16):
        out = new_run(str(precision))
        events = list(train(config, corpus, out, precision=precision))
        figures[precision] = [e.figures for e in events if e.stage in STAGES and e.done == e.total]
        saved = read_checkpoint(out / "diffusion.pt")
        kept = (saved["weights"], saved["ema"], *saved["optimiser"]["state"].values())
        assert {v.dtype for part in kept for v in part.values()} == {torch.float32}
    plain, mixed = figures.values()
    assert len(plain) == len(STAGES)
    for a, b in zip(plain, mixed, strict=True):
        losses = [key for key in a if not key.endswith("_seconds")]
        assert any(a[key] != b[key] for key in losses)  # it was bfloat16
        for key in losses:  # eight bits a product, over a few steps
            assert b[key] == pytest.approx(a[key], rel=0.05, abs=0.02), key
    with pytest.raises(TrainingError, match="precision"):
        list(train(config, corpus, out, resume=True))


@pytest.mark.parametrize("name, precision", [("no", "fp32"), ("bf16", "bf16")])
def test_the_launchers_mixed_precision_is_taken(monkeypatch, name, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", name)
    assert launched_precision() == precision


def test_a_mixed_precision_that_is_not_offered_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(TrainingError, match="give no or bf16"):
        launched_precision()


@pytest.mark.slow
def test_the_encoder_stage_moves_nothing_else(corpus, new_run):
    out = new_run()
    config = load_config("tiny")
    list(train(config, corpus, out, stages=("autoencoder", "vocoder", "diffusion", "finish")))
    before = read_tensors(out / "model" / "model.safetensors")
    list(train(config, corpus, out, stages=("encoder",), resume=True))
    assert (out / "encoder.pt").is_file()
    after = read_tensors(out / "model" / "model.safetensors")
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved
    assert all("global_" in key for key in moved)


def test_a_run_folder_is_not_overwritten_and_other_settings_are_refused(corpus, new_run):
    out = new_run()
    config = load_config("tiny")
    list(train(config, corpus, out, stages=("autoencoder",)))
    with pytest.raises(TrainingError, match="--resume"):
        next(iter(train(config, corpus, out)))
    other = load_config("tiny")
    other["training"]["autoencoder"]["learning_rate"] = 1.0
    with pytest.raises(TrainingError, match="other settings"):
        list(train(other, corpus, out, resume=True))


def test_a_full_disk_keeps_the_last_good_checkpoint(corpus, new_run, monkeypatch):
    out = new_run()
    config = load_config("tiny")
    list(train(config, corpus, out, stages=("autoencoder",)))
    good = (out / "autoencoder.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="last good one is kept"):
        list(train(config, corpus, out, stages=("autoencoder",), resume=True))
    assert (out / "autoencoder.pt").read_bytes() == good


def test_a_later_stage_without_the_earlier_says_which(corpus, new_run):
    with pytest.raises(TrainingError, match="needs autoencoder first"):
        list(train(load_config("tiny"), corpus, new_run(), stages=("diffusion",)))


def test_energy_distance_prefers_noise_to_a_smooth_answer():
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(4, 24_000, generator=generator)  # noqa: E731
    target = draw()
    right, _ = energy_distance(target, draw(), draw())
    silent, _ = energy_distance(target, torch.zeros(4, 24_000), torch.zeros(4, 24_000))
    quiet, _ = energy_distance(target, 0.5 * draw(), 0.5 * draw())
    assert right < quiet < silent


def test_the_ends_are_mirrored_as_torch_does(randn):
    samples = randn(2, 9600)
    for ours, (n_fft, hop) in zip(log_spectra(samples), RESOLUTIONS, strict=True):
        window = torch.hann_window(n_fft)
        theirs = torch.stft(samples, n_fft, hop, window=window, return_complex=True).abs().square()
        assert torch.allclose(
            ours, (theirs / window.square().sum() + POWER_FLOOR).log10(), atol=1e-5
        )


def test_the_floor_is_what_silence_reads_as():
    from lily.config.presets import MelConfig
    from lily.dsp.mel import LogMel

    assert LogMel(MelConfig())(torch.zeros(1, 48_000)).max() == pytest.approx(LOG_FLOOR)


@pytest.fixture
def below(tmp_path) -> Path:
    """A model folder to begin from."""
    folder, config = tmp_path / "below", load_config("tiny")
    save_model_folder(_build(config, 7), config, folder, dtype=torch.float32)
    return folder


def begun_from(below: Path, corpus: Path, out: Path, **options) -> None:
    config = with_weights(read_folder_config(below))
    recipe = {**config, "training": load_config("tiny")["training"]}
    list(train(recipe, corpus, out, base=str(below), **options))


@pytest.mark.slow
def test_an_encoder_is_trained_on_top_of_a_model_that_stays_as_it_is(corpus, new_run, below):
    out = new_run("adapter")
    # Another run's stages in the same folder are not the base's.
    list(
        train(
            load_config("tiny"),
            corpus,
            out,
            stages=("autoencoder", "vocoder", "diffusion", "finish"),
        )
    )
    begun_from(below, corpus, out, adapter=True, resume=True)
    kept = read_tensors(out / "model" / "model.safetensors")
    assert kept and all(is_of_encoder(key) for key in kept)
    adapter = load_model(with_weights(read_folder_config(out / "model")))
    assert adapter.encoder_is_trained
    # It reads profiles, whatever the encoder of its base did.
    assert adapter.unet.global_encoder.config.profile
    base = load_model(with_weights(read_folder_config(below)))
    for key, value in base.state_dict().items():
        assert is_of_encoder(key) or torch.equal(value, adapter.state_dict()[key])


def test_a_stage_may_begin_from_a_models_weights(corpus, new_run, below):
    out = new_run("further")
    begun_from(below, corpus, out, stages=("diffusion",))
    before, after = (
        load_model(with_weights(read_folder_config(folder))).state_dict()
        for folder in (below, out / "model")
    )
    assert before.keys() == after.keys()
    moved = {
        key for key, value in before.items() if not torch.equal(value.half(), after[key].half())
    }
    assert moved and all(key.startswith("model.") for key in moved)  # not the latents' scale either


@pytest.mark.slow
def test_a_share_of_a_recipe_runs_every_stage_and_makes_a_model(corpus, tmp_path):
    out, whole = tmp_path / "rehearsal", load_config("tiny")["training"]
    arguments = ["train", "--preset", "tiny", "--data", str(corpus), "--out", str(out)]
    assert main([*arguments, "--share", "0.5", "--workers", "1"]) == 0
    for stage in STAGES:
        assert read_checkpoint(out / f"{stage}.pt")["step"] == round(whole[stage]["steps"] / 2)
    assert load_model(with_weights(read_folder_config(out / "model"))).encoder_is_trained


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="more than 0"):
        shortened(load_config("tiny"), share)
