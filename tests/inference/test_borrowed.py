"""What a user knows of the original is used: another recording of its source, where it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from lily.audio.read import read_audio
from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import save_model_folder
from lily.config.presets import load_config
from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.dsp.unknown import UNKNOWN
from lily.errors import InputError
from lily.inference import borrowed
from lily.inference.engine import InferenceEngine
from lily.inference.events import Compared, ContextUse
from lily.inference.options import UpsampleOptions
from lily.inference.reading import RecordingReader
from lily.model.latent_diffusion import LatentDiffusion
from lily.model.recording_profile import COUNT, EDGE, KNOWN, in_units
from lily.training.train import with_profile

CUTOFF = 5_000.0


def make_engine(folder: Path, config: dict, pair_memory: bool) -> InferenceEngine:
    config = {**config, "inference": {**config["inference"], "pair_memory": pair_memory}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LatentDiffusion(**config["model"]["params"])
        for module in model.unet.conditioned():
            torch.nn.init.normal_(module.global_out.weight, std=0.5)
    save_model_folder(model, config, folder, dtype=torch.float32)
    return InferenceEngine(read_folder_config(folder), device="cpu")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> InferenceEngine:
    """A model whose encoder reads profiles."""
    return make_engine(tmp_path_factory.mktemp("model"), with_profile(load_config("tiny")), True)


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> InferenceEngine:
    """The same weights from before there were profiles."""
    return make_engine(tmp_path_factory.mktemp("older"), load_config("tiny"), False)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A narrow recording, and what may be borrowed for it."""
    folder, generator = tmp_path_factory.mktemp("files"), torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(2, 4 * 48_000, generator=generator)
    narrow = filter_whole(noise, lowpass_kernel(0.97 * CUTOFF, 1.03 * CUTOFF, 48_000))
    signals = {
        "recording": (narrow[:1], 48_000),
        "wide": (noise[1:], 48_000),
        "stereo": (noise[:, :44_100], 44_100),
        "narrow": (narrow[1:], 48_000),
        "silent": (0 * noise[:1], 48_000),
        "tone": (0.1 * torch.sin(torch.arange(4 * 48_000) / 17.0)[None], 48_000),
        "short": (noise[:1, :960], 48_000),
    }
    for name, (samples, rate) in signals.items():
        soundfile.write(folder / f"{name}.wav", samples.T.numpy(), rate, subtype="FLOAT")
    (folder / "empty.wav").write_bytes(b"")
    return {name: folder / f"{name}.wav" for name in (*signals, "empty")}


def context_of(engine, files, **options):
    return engine.context_of(files["recording"], UpsampleOptions(seed=1, **options))


def restored(engine, files, out, **options) -> torch.Tensor:
    result = engine.run_inference(files["recording"], out, seed=1, steps=1, **options)
    return read_audio(result.output)


def test_what_is_borrowed_adds_its_pairs_and_changes_no_token(engine, files):
    alone = context_of(engine, files)
    both = context_of(engine, files, context_files=(files["wide"],))
    assert torch.equal(alone.tokens, both.tokens) and torch.equal(alone.vector, both.vector)
    count = len(alone.pairs.log_mel)
    assert count == 400 and len(both.pairs.log_mel) == 800
    assert torch.equal(both.pairs.log_mel[:count], alone.pairs.log_mel)
    high = both.pairs.hz > 1.1 * CUTOFF
    assert not both.pairs.known[:count, high].any() and both.pairs.known[count:, high].all()


@pytest.mark.parametrize(("end_hz", "ends"), [(10_000.0, False), (17_000.0, True)])
def test_a_borrowed_end_counts_where_originals_end(engine, files, tmp_path, end_hz, ends):
    samples = read_audio(files["wide"])
    walled = filter_whole(samples, lowpass_kernel(0.99 * end_hz, 1.01 * end_hz, 48_000))
    path = tmp_path / "walled.wav"
    soundfile.write(path, walled.T.numpy(), 48_000, subtype="FLOAT")
    pairs = context_of(engine, files, context_files=(path,)).pairs
    above = pairs.hz > 1.05 * end_hz
    lent = pairs.borrowed
    assert pairs.ended[lent][:, above].all() if ends else not pairs.ended.any()
    assert bool(pairs.known[lent][:, above].any()) == ends
    assert not pairs.ended[~lent].any() and not pairs.ended[:, pairs.hz < 0.95 * end_hz].any()


@pytest.mark.slow
@pytest.mark.parametrize("names", [("wide",), ("stereo",), ("wide", "stereo"), ("short",)])
def test_borrowed_recordings_of_any_form_change_the_highs_alone(engine, files, tmp_path, names):
    plain = restored(engine, files, tmp_path / "plain")
    given = tuple(files[name] for name in names)
    informed = restored(engine, files, tmp_path / "informed", context_files=given)
    again = restored(engine, files, tmp_path / "again", context_files=given)
    assert torch.equal(informed, again)
    difference = informed - plain
    below = filter_whole(difference, lowpass_kernel(0.8 * CUTOFF, 0.85 * CUTOFF, 48_000))
    assert difference.square().mean() > 0
    assert below.square().mean() < 1e-4 * difference.square().mean()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("narrow", "still has its highs"),
        ("recording", "still has its highs"),
        ("silent", "is silent"),
        ("tone", "is a few tones"),
        ("empty", "empty.wav"),
        ("missing", "missing.wav"),
    ],
)
def test_what_has_no_highs_is_refused_in_one_sentence(engine, files, tmp_path, name, reason):
    path = files.get(name, tmp_path / "missing.wav")
    with pytest.raises(InputError, match=reason):
        restored(engine, files, tmp_path, context_files=(path,))
    assert not list(tmp_path.glob("*.wav"))


def test_of_a_long_context_the_beginning_is_read(engine, files, monkeypatch):
    monkeypatch.setattr(borrowed, "LONGEST_SECONDS", 1.0)
    for name in ("wide", "stereo"):
        context = context_of(engine, files, context_files=(files[name],))
        assert len(context.pairs.log_mel) == 400 + 100


def test_unknown_bins_are_marked_for_the_encoder_alone(engine, files):
    reader = RecordingReader(engine.runtime, files["recording"], UpsampleOptions())
    for _ in (*reader.analyze(), *reader.prepare(0)):
        continue
    log_mels = list(reader.features.log_mels(reader.blocks()))
    marked = torch.cat(list(reader.features.encoder_log_mels(log_mels, marked=True)))
    plain = torch.cat(list(reader.features.encoder_log_mels(log_mels, marked=False)))
    first = engine.mel.first_bin_above(reader.analysis.cutoff_hz)
    assert (marked[:, first:] == UNKNOWN).all()
    assert torch.equal(marked[:, : first - 20], plain[:, : first - 20])
    channels = torch.cat(list(reader.features.log_mels(reader.blocks())), dim=1)
    power_mean = (2 * channels).exp().mean(0).log() / 2
    assert torch.allclose(plain, power_mean, atol=1e-4)


def test_a_wall_sets_the_profile_and_is_reported(engine, files, tmp_path):
    plain = context_of(engine, files)
    context = context_of(engine, files, wall_hz=17_000.0, brightness_db=6.0)
    assert in_units(context.vector[0, :COUNT])[EDGE] == pytest.approx(17.0)
    assert context.vector[0, COUNT + EDGE] == KNOWN
    assert torch.equal(context.vector[0, 1:COUNT], plain.vector[0, 1:COUNT])
    assert torch.equal(context.tokens, plain.tokens)
    result = engine.run_inference(files["recording"], tmp_path, seed=1, steps=1, wall_hz=17_000.0)
    assert result.expectation.startswith("The highs end at 17 kHz, as set; expected ")
    settings = json.loads(result.metadata.read_text())["settings"]
    assert (settings["wall_hz"], settings["brightness_db"]) == (17_000.0, None)


@pytest.mark.parametrize("encoder", [False, True])
def test_wall_and_brightness_change_the_highs_as_asked(engine, files, tmp_path, encoder):
    def spectrum(name: str, **options) -> torch.Tensor:
        made = restored(engine, files, tmp_path / name, encoder=encoder, **options)
        return torch.fft.rfft(made[0] * torch.hann_window(made.shape[1])).abs()

    plain, louder = spectrum("plain"), spectrum("louder", brightness_db=6.0)
    hz = torch.linspace(0, 24_000, len(plain))
    highs, above_wall = hz > 1.2 * CUTOFF, hz > 12_000
    gained = 20 * (louder[highs].norm() / plain[highs].norm()).log10()
    assert gained == pytest.approx(6.0, abs=1.5)  # the vocoder is not linear, this one untrained
    lows = hz < 4_000
    assert (louder - plain)[lows].norm() < 1e-3 * plain[lows].norm()
    walled = spectrum("walled", wall_hz=10_000.0)
    assert walled[above_wall].norm() < 0.7 * plain[above_wall].norm()


@pytest.mark.parametrize("name", ["wide", "silent"])
def test_a_wall_leaves_alone_what_needs_no_highs(engine, files, tmp_path, name):
    result = engine.run_inference(files[name], tmp_path, wall_hz=16_000.0, brightness_db=3.0)
    torch.testing.assert_close(
        read_audio(result.output), read_audio(files[name]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"wall_hz": 4_000.0}, "more than the cutoff"),
        ({"wall_hz": 24_001.0}, "give 500 to 24000"),
        ({"brightness_db": 30.0}, "give -24 to 24"),
        ({"context_files": (Path("wide.wav"),), "encoder": False}, "turn it on"),
    ],
)
def test_what_cannot_be_set_says_the_range(engine, files, tmp_path, options, reason):
    with pytest.raises(InputError, match=reason):
        restored(engine, files, tmp_path, **options)


def test_a_model_without_profiles_takes_no_context(older, files, tmp_path):
    with pytest.raises(InputError, match="reads no profile"):
        restored(older, files, tmp_path, context_files=(files["wide"],))
    with_profiles = make_engine(tmp_path / "model", with_profile(load_config("tiny")), False)
    with pytest.raises(InputError, match="pair_memory"):
        restored(with_profiles, files, tmp_path, context_files=(files["wide"],))
    assert restored(older, files, tmp_path).any()


def test_a_comparison_informs_the_variant_with_the_encoder(engine, files, tmp_path):
    def compared(out, **options):
        chosen = UpsampleOptions(seed=1, steps=1, **options)
        *_, last = engine.compare(files["recording"], out, chosen)
        assert isinstance(last, Compared)
        return last.result

    plain = compared(tmp_path / "plain")
    informed = compared(tmp_path / "informed", context_files=(files["wide"],))
    assert torch.equal(read_audio(plain.off.output), read_audio(informed.off.output))
    assert not torch.equal(read_audio(plain.on.output), read_audio(informed.on.output))
    assert informed.on.expectation and not informed.off.expectation
    of = [json.loads(r.metadata.read_text())["settings"] for r in (informed.off, informed.on)]
    assert [len(settings["context_sha256"]) for settings in of] == [0, 1]


def test_a_result_says_what_was_borrowed_and_how_far_it_counted(engine, files, tmp_path):
    plain = engine.run_inference(files["recording"], tmp_path / "plain", seed=1, steps=1)
    assert plain.context is None and plain.to_dict()["context"] is None
    names = ("wide", "stereo")
    given = tuple(files[name] for name in names)
    informed = engine.run_inference(
        files["recording"], tmp_path / "informed", seed=1, steps=1, context_files=given
    )
    assert informed.context.files == ("wide.wav", "stereo.wav")
    assert 0.0 < informed.context.share < 1.0
    assert f"{informed.context.share:.0%} of what was generated" in informed.context.sentence
    stored = informed.to_dict()["context"]
    assert stored == {"files": informed.context.files, "share": informed.context.share}


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.41, "Context: a.wav, b.wav; their highs count for 41% of what was generated."),
        (0.02, "too unlike this recording to be trusted: their highs count for 2%"),
        (None, "as in the earlier run"),
    ],
)
def test_the_share_of_a_context_is_a_plain_sentence(share, said):
    assert said in ContextUse(("a.wav", "b.wav"), share).sentence


@pytest.mark.parametrize("share", [0.41, 0.02])
def test_a_single_borrowed_recording_is_spoken_of_in_the_singular(share):
    said = ContextUse(("a.wav",), share).sentence
    assert f"its highs count for {share:.0%}" in said and "their" not in said
