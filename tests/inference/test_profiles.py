"""The profiles: what AudioSR's changes, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from test_convert_audiosr import as_audiosr, convert, save
from torch import Tensor

from lily.audio.read import read_audio
from lily.checkpoints.folder_config import read_folder_config
from lily.cli import main
from lily.config.inference import InferenceConfig
from lily.config.presets import load_config
from lily.config.sections import build
from lily.dsp.audiosr import WINDOW, StreamingLowpass, lowpass
from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.errors import InputError
from lily.inference.engine import InferenceEngine
from lily.inference.options import PROFILE_NAMES, UpsampleOptions
from lily.inference.profiles import PROFILES, with_defaults


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny preset out of a checkpoint of AudioSR's kind: it holds no encoder."""
    root = tmp_path_factory.mktemp("profiles")
    return convert(save(root / "pytorch_model.bin", as_audiosr()), root / "model")


@pytest.fixture
def engine(folder) -> InferenceEngine:
    return InferenceEngine(read_folder_config(folder), device="cpu")


def noise(seconds: float, cutoff: float, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    samples = torch.randn(channels, round(seconds * 48_000), generator=generator) * 0.1
    return filter_whole(samples, lowpass_kernel(0.97 * cutoff, 1.03 * cutoff, 48_000))


def write(path: Path, samples: Tensor) -> Path:
    soundfile.write(path, samples.T.numpy(), 48_000, subtype="FLOAT")
    return path


def run(engine: InferenceEngine, path: Path, out: Path, **options) -> Tensor:
    options = {"seed": 3, "steps": 2, "profile": "audiosr", **options}
    return read_audio(engine.run_inference(path, out, **options).output)


def test_every_profile_has_its_name_and_its_rules():
    assert tuple(PROFILES) == PROFILE_NAMES
    assert all(profile.name == name for name, profile in PROFILES.items())


def test_audiosr_keeps_level_length_and_the_band_below_its_cutoff(engine, tmp_path):
    recording = 0.3 * noise(2.3, 6_000.0, channels=2) + 0.1
    path = write(tmp_path / "a.wav", recording)
    result = engine.run_inference(path, tmp_path / "o", seed=3, steps=2, profile="audiosr")
    output = read_audio(result.output)
    assert output.shape == recording.shape
    below = lowpass_kernel(0.7 * result.cutoff_hz, 0.85 * result.cutoff_hz, 48_000)
    change = output - recording  # of random weights: louder than the recording
    leaked = filter_whole(change, below).square().mean().sqrt()
    assert change.std() > recording.std()
    assert 20 * math.log10(leaked / change.square().mean().sqrt()) < -60


@pytest.mark.slow
def test_audiosr_gives_the_same_bits_for_a_seed_and_other_bits_than_lily(engine, tmp_path):
    path = write(tmp_path / "a.wav", noise(2.0, 4_000.0))
    given = {"cutoff_hz": 4_000.0}
    first = run(engine, path, tmp_path / "1", **given)
    assert torch.equal(first, run(engine, path, tmp_path / "2", **given))
    assert not torch.equal(first, run(engine, path, tmp_path / "3", seed=4, **given))
    assert not torch.equal(first, run(engine, path, tmp_path / "4", profile="lily", **given))


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_without_encoder_tensors_on_and_off_are_the_same_bits(engine, tmp_path, profile):
    path = write(tmp_path / "a.wav", noise(2.0, 4_000.0))
    given = {"cutoff_hz": 4_000.0, "profile": profile}
    result = engine.run_inference(path, tmp_path / "on", seed=3, steps=2, **given)
    assert "untrained" in result.message and result.encoder
    on = read_audio(result.output)
    assert torch.equal(on, run(engine, path, tmp_path / "off", encoder=False, **given))
    generator = torch.Generator().manual_seed(0)
    for module in engine.model.unet.conditioned():
        module.global_out.weight.normal_(0, 0.5, generator=generator)
    assert not torch.equal(on, run(engine, path, tmp_path / "random", **given))


@pytest.mark.slow
def test_a_recording_is_one_chunk_up_to_three_segments_and_several_beyond(engine, tmp_path):
    for seconds, chunks in ((1.0, 1), (15.36, 1), (15.4, 2)):
        path = write(tmp_path / f"{seconds}.wav", noise(seconds, 4_000.0))
        result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, profile="audiosr")
        assert result.chunks == chunks and result.samples == round(seconds * 48_000)


def test_a_silent_channel_and_a_silent_recording_pass(engine, tmp_path):
    stereo = torch.cat([noise(1.0, 4_000.0), torch.zeros(1, 48_000)])
    output = run(engine, write(tmp_path / "a.wav", stereo), tmp_path / "o")
    assert output.isfinite().all() and output[1].abs().max() < 1e-6
    silent = run(engine, write(tmp_path / "b.wav", torch.zeros(1, 4_800)), tmp_path / "o")
    assert torch.equal(silent, torch.zeros(1, 4_800))


@pytest.mark.slow
def test_a_long_recording_is_filtered_in_windows_as_in_one(randn):
    samples = randn(1, 2 * WINDOW + 7 * 48_000 + 123) * 0.1
    for family, cutoff in (("ellip", 1_003.0), ("bessel", 5_021.0)):
        filters, out = StreamingLowpass((cutoff,), family), []
        for block in samples.split(700_001, dim=1):
            out.append(filters.push(block))
        out = torch.cat([*out, filters.flush()], dim=1)
        whole = torch.from_numpy(lowpass(samples[0].numpy(), cutoff, family).copy()).float()
        torch.testing.assert_close(out[0], whole, rtol=0, atol=1e-7)


def test_the_defaults_are_those_of_audiosrs_command_line(engine):
    chosen = engine.completed(UpsampleOptions(profile="audiosr"))
    assert (chosen.steps, chosen.guidance, chosen.sampler) == (50, 3.5, "ddim-eta1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "other"}, "lily or audiosr"),
        ({"profile": "audiosr", "steps": 12}, "divide 1000, the nearest is 10"),
        ({"profile": "audiosr", "sampler": "ddim"}, "choose ddim-eta1"),
        ({"profile": "lily", "sampler": "ddim-eta1"}, "not known to profile lily"),
    ],
)
def test_what_a_profile_cannot_do_is_one_sentence(engine, options, said):
    with pytest.raises(InputError, match=said):
        engine.completed(UpsampleOptions(**options))


def test_the_command_line_takes_a_profile(folder, tmp_path, capsys):
    path = write(tmp_path / "a.wav", noise(1.0, 4_000.0))
    arguments = ["upsample", path, "-o", tmp_path / "o", "--weights", folder, "--steps", "2"]
    assert main([*map(str, arguments), "--profile", "audiosr", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["profile"], facts["sampler"]) == ("audiosr", "ddim-eta1")


@pytest.mark.parametrize(
    ("latents", "preset", "length"),
    [
        (1, 128, 64),
        (64, 128, 64),
        (65, 128, 128),
        (5_000, 128, 128),
        (1, 64, 64),
        (3, 16, 16),
        (25, 136, 136),
        (25, 272, 136),
    ],
)
def test_a_short_recording_has_a_chunk_of_half_the_length_if_it_fits(latents, preset, length):
    assert PROFILES["lily"].chunk(latents, preset) == length


def test_a_chunk_whose_half_the_u_net_cannot_take_is_not_halved(folder, tmp_path):
    config = read_folder_config(folder)
    config["inference"] = {**config["inference"], "chunk": 136}
    engine = InferenceEngine(config, device="cpu")
    path = write(tmp_path / "a.wav", noise(0.5, 4_000))
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1, cutoff_hz=4_000.0)
    assert result.chunks == 1 and result.samples == 24_000


def test_guidance_acts_only_at_the_times_the_preset_names(folder, tmp_path):
    path = write(tmp_path / "a.wav", noise(1.0, 4_000))
    rows: dict[tuple[int, int], list[int]] = {}
    for times in ((0, 1000), (250, 900), (0, 0)):
        config = read_folder_config(folder)
        config["inference"] = {**config["inference"], "guided": list(times)}
        engine = InferenceEngine(config, device="cpu")
        heard = rows.setdefault(times, [])
        engine.model.unet.register_forward_hook(
            lambda _m, args, _o, h=heard: h.append(len(args[0]))
        )
        run(engine, path, tmp_path / str(times), profile="lily", steps=4, guidance=2.0)
    batch = InferenceEngine(read_folder_config(folder), device="cpu").settings.batch
    assert rows[0, 1000] == [2 * batch] * 4  # at 999, 749, 499, 249
    assert rows[250, 900] == [batch, 2 * batch, 2 * batch, batch]
    assert rows[0, 0] == [batch] * 4


def test_the_temporal_shape_is_on_but_in_audiosr_s_profile():
    settings = build(InferenceConfig, load_config("tiny")["inference"], "inference")
    assert with_defaults(UpsampleOptions(), settings, 0).temporal_shape is True
    assert with_defaults(UpsampleOptions(temporal_shape=False), settings, 0).temporal_shape is False
    reproduced = UpsampleOptions(profile="audiosr")
    assert with_defaults(reproduced, settings, 0).temporal_shape is False
    with pytest.raises(InputError, match="temporal shape"):
        with_defaults(replace(reproduced, temporal_shape=True), settings, 0)
