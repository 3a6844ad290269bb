"""Laws of the certificate: what is whole is certified, and whatever is done to it is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from test_engine import band_limited, make_folder, write

from lily.audio.read import AudioWriter, read_audio
from lily.audio.sample_hash import SampleHash
from lily.audio.tags import read_comment
from lily.certify.certificate import certificate_path, read_certificate, read_short
from lily.certify.verify import verify
from lily.certify.witness import Witness
from lily.checkpoints.model_folder import read_folder_config
from lily.cli import main
from lily.config.presets import load_config
from lily.errors import InputError
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Finished, StopEarly
from lily.inference.events import UpsampleOptions as Options

CUTOFF = 6_000.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> InferenceEngine:
    folder = make_folder(tmp_path_factory.mktemp("model"))
    return InferenceEngine(read_folder_config(folder), device="cpu")


@pytest.fixture(scope="module")
def made(engine, tmp_path_factory) -> tuple[Path, Path]:
    """A stereo recording at 44.1 kHz and what was made of it."""
    folder = tmp_path_factory.mktemp("made")
    samples = band_limited(3.0, CUTOFF, channels=2) / 20  # what is made of it fits 24 bits
    samples[1] = 0.5 * samples[0] + samples[1]
    recording = write(folder / "a.wav", samples[:, : 3 * 44_100], 44_100)
    out = folder / "out"
    engine.run_inference(recording, out, seed=3, steps=2, cutoff_hz=CUTOFF)
    return recording, out / "a.wav"


@pytest.fixture
def copy(made, tmp_path) -> tuple[Path, Path]:
    """The same in a folder of its own, for doing things to it."""
    recording, output = made
    for path in (output, certificate_path(output)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return recording, tmp_path / output.name


def broken(file: Path, against: Path | None = None) -> set[str]:
    return {law.label for law in verify(file, against).laws if law.holds is False}


def rewritten(file: Path, change) -> None:
    """The file with changed samples; its comment and certificate stay."""
    comment, samples = read_comment(file), read_audio(file)
    with AudioWriter(file, 48_000, samples.shape[0]) as writer:
        writer.write(change(samples))
        writer.comment = comment


def forged(file: Path) -> None:
    """Certificate and seal made to agree with whatever the file holds now."""
    path, digest = certificate_path(file), SampleHash()
    digest.update(read_audio(file))
    stated = read_certificate(path)
    samples = soundfile.info(file).frames
    output = replace(stated.output, sha256=digest.hexdigest(), samples=samples)
    stated = replace(stated, output=output)
    path.write_text(json.dumps(stated.to_json()))
    samples = read_audio(file)
    with AudioWriter(file, 48_000, samples.shape[0]) as writer:
        writer.write(samples)
        writer.comment = stated.short()


def test_what_the_engine_writes_is_certified_and_holds(made):
    recording, output = made
    stated = read_certificate(certificate_path(output))
    assert stated.output.samples == soundfile.info(output).frames == 144_000
    assert stated.run.seed == 3 and stated.run.steps == 2 and len(stated.run.joins) > 1
    assert stated.kept.null_db >= 60 and stated.kept.worst_null_db >= 60
    assert read_short(read_comment(output))["seal"] == stated.seal
    for against in (None, recording):
        assert broken(output, against) == set()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_what_the_bundled_model_writes_holds_when_it_is_measured_again(tmp_path, seconds):
    recording = write(tmp_path / "a.wav", band_limited(seconds, CUTOFF, channels=1) / 10)
    engine = InferenceEngine(load_config("lily-mini"), device="cpu")
    result = engine.run_inference(recording, tmp_path / "out", seed=1)
    assert len(read_certificate(certificate_path(result.output)).run.joins) > 3
    assert broken(result.output, recording) == set()


def test_the_same_run_gives_the_same_certificate_whatever_the_file_is_called(
    engine, made, tmp_path
):
    recording, output = made
    other = tmp_path / "another name.wav"
    other.write_bytes(recording.read_bytes())
    engine.run_inference(other, tmp_path / "o", seed=3, steps=2, cutoff_hz=CUTOFF)
    again = tmp_path / "o" / "another name.wav"
    assert again.read_bytes() == output.read_bytes()
    told = (certificate_path(path).read_bytes() for path in (again, output))
    assert len(set(told)) == 1


CHANGES = {
    "one sample": lambda x: (
        x
        + torch.zeros_like(x).index_put_(
            (torch.tensor(0), torch.tensor(70_000)), torch.tensor(2.0**-10)
        )
    ),
    "level": lambda x: x * 0.99,
    "channels swapped": lambda x: x.flip(0),
    "a channel inverted": lambda x: x * torch.tensor([[1.0], [-1.0]]),
    "shifted by one sample": lambda x: x.roll(1, -1),
    "DC": lambda x: x + 0.001,
    "cut": lambda x: x[:, :-1],
    "longer": lambda x: torch.cat([x, x[:, :10]], -1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_changed_in_the_samples_is_found(copy, name):
    recording, output = copy
    rewritten(output, CHANGES[name])
    assert "Samples are those certified" in broken(output)
    assert "Samples are those certified" in broken(output, recording)


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_certificate_is_found_by_measuring_against_the_input(copy, name):
    recording, output = copy
    rewritten(output, CHANGES[name])
    forged(output)
    assert "Samples are those certified" not in broken(output, recording)
    found = broken(output, recording)
    expected = {
        "level": "Level of the kept band, change",
        "DC": "DC, change",
        "cut": "Length",
        "longer": "Length",
    }
    assert expected.get(name, "Figures measured again agree") in found
    if name not in (*expected, "one sample"):  # one that is 60 dB down shows in the figures alone
        assert "Null depth, worst moment" in found


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("run", "seed"), 4),
        (("run", "weights_sha256"), ["0" * 64]),
        (("kept", "null_db"), 150.0),
        (("output", "signal", "true_peak_db"), -9.0),
        (("versions", "lily"), "9"),
    ],
)
def test_an_edited_certificate_is_found(copy, place, value):
    _, output = copy
    path = certificate_path(output)
    told = json.loads(path.read_text())
    inner = told
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(told))
    assert "Certificate is the one sealed in the file" in broken(output)


def test_spaces_in_the_certificate_do_not_matter_and_a_missing_one_does(copy):
    recording, output = copy
    path = certificate_path(output)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert broken(output, recording) == set()
    path.unlink()
    assert broken(output) == {"Certificate lies beside the file"}
    rewritten(output, CHANGES["level"])
    assert "Samples are those certified" in broken(output)


def test_another_input_is_found(copy, tmp_path):
    recording, output = copy
    other = read_audio(recording, 44_100)
    other[0, 5] += 2.0**-20
    path = write(tmp_path / "other.wav", other, 44_100)
    assert broken(output, path) == {"Input is the recording certified"}
    mono = write(tmp_path / "mono.wav", other[:1], 44_100)
    assert broken(output, mono) == {"Rate and channels are those certified"}


def test_the_same_samples_in_a_flac_still_verify(copy):
    recording, output = copy
    samples, comment = read_audio(output), read_comment(output)
    with AudioWriter(output.with_suffix(".flac"), 48_000, 2) as writer:
        writer.write(samples)
        writer.comment = comment
    output.unlink()
    assert broken(output.with_suffix(".flac"), recording) == set()


def test_flac_is_certified_too_and_becomes_a_float_wav_where_it_would_clip(engine, tmp_path):
    quiet, loud = band_limited(1.0, CUTOFF) / 20, band_limited(1.0, CUTOFF)
    loud *= 0.98 / loud.abs().max()
    loud[0, 24_000] = -1.2
    for name, samples, ending in (("quiet", quiet, "flac"), ("loud", loud, "wav")):
        path = write(tmp_path / f"{name}.wav", samples)
        result = engine.run_inference(
            path, tmp_path / "o", seed=1, steps=1, cutoff_hz=CUTOFF, format="flac"
        )
        assert result.output.name == f"{name}.{ending}" and result.output.exists()
        assert broken(result.output, path) == set()
        with pytest.raises(InputError, match="exists already"):
            engine.run_inference(path, tmp_path / "o", seed=1, steps=1, format="flac")
    with pytest.raises(InputError, match="wav or flac"):
        engine.run_inference(path, tmp_path / "p", format="mp3")


def test_full_band_silence_and_single_samples_are_certified(engine, tmp_path):
    noise = 0.1 * torch.randn(2, 96_000, generator=torch.Generator().manual_seed(0))
    cases = {
        "full": noise,
        "silent": torch.zeros(1, 4_800),
        "one": noise[:1, :1],
        "two": noise[:1, :2],
        "short": noise[:, :3_000],
    }
    for name, samples in cases.items():
        path = write(tmp_path / f"{name}.wav", samples)
        result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1)
        assert broken(result.output, path) == set(), name


def test_a_cutoff_that_changes_is_held_to_the_lowest_of_each_piece(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(4.0, 12_000.0, channels=2))
    pieces = ((0.0, 12_000.0), (2.0, 5_000.0), (3.0, 22_000.0))
    result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=pieces)
    stated = read_certificate(result.certificate)
    assert stated.run.cutoffs == ((0, 12_000.0), (96_000, 5_000.0), (144_000, 22_000.0))
    assert stated.kept.null_db >= 60 and stated.kept.worst_null_db >= 60
    assert broken(result.output, path) == set()


def test_a_run_that_was_stopped_early_says_so(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(6.0, CUTOFF))
    events = engine.stream(path, tmp_path / "o", Options(seed=1, steps=2, cutoff_hz=CUTOFF))
    for event in events:
        if isinstance(event, ChunksDone):
            break
    finished = events.throw(StopEarly())
    assert isinstance(finished, Finished)
    assert broken(finished.result.output, path) == {"Length"}


def test_output_and_certificate_get_their_names_together_or_not_at_all(
    engine, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "a.wav", band_limited(1.0, CUTOFF))
    monkeypatch.setattr("lily.inference.certified_writer.json.dump", full)
    with pytest.raises(OSError):
        engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=CUTOFF)
    assert not any((tmp_path / "o").iterdir())


def test_a_certificate_that_is_there_is_not_overwritten(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(1.0, CUTOFF))
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "a.certificate.json").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        engine.run_inference(path, tmp_path / "o", cutoff_hz=CUTOFF)
    assert (tmp_path / "o" / "a.certificate.json").read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "lily-certificate/9"}', '{"schema": "lily-certificate/1"}']
)
def test_what_is_no_certificate_is_one_sentence(copy, text):
    _, output = copy
    certificate_path(output).write_text(text)
    with pytest.raises(InputError):
        verify(output)


def test_verify_on_the_command_line(copy, tmp_path, capsys):
    recording, output = copy
    assert main(["verify", str(output), "--against", str(recording), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] and {"label", "value", "unit", "holds"} == told["laws"][0].keys()
    rewritten(output, CHANGES["level"])
    assert main(["verify", str(output)]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    plain = write(tmp_path / "plain.wav", torch.zeros(1, 100))
    for bad in (plain, tmp_path / "none.wav", certificate_path(output)):
        assert main(["verify", str(bad)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Traceback" not in error


def test_the_length_of_blocks_changes_no_figure(engine, made, tmp_path):
    """What is certified while writing is what one push of everything gives."""
    recording, output = made
    stated = read_certificate(certificate_path(output))
    witness = Witness(stated.run, 48_000)
    witness.written(read_audio(output))
    witness.heard(read_audio(recording))
    kept, added, seams = witness.finish()
    assert replace(stated, kept=kept, added=added, seams=seams).seal == stated.seal


def leaves(told, place=()):
    """Places of every plain value in a certificate."""
    items = told.items() if isinstance(told, dict) else enumerate(told)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*place, key))
        yield (*place, key)


@pytest.mark.parametrize("value", [-1, 1e300, float("nan"), None, "x", [], True])
def test_a_hostile_certificate_is_found_or_refused_never_a_surprise(copy, value):
    """Every value in turn; what drives the measuring is measured with."""
    _, output = copy
    path = certificate_path(output)
    whole = json.loads(path.read_text())
    stated = read_certificate(path)
    for place in leaves(whole):
        told = json.loads(json.dumps(whole))
        inner = told
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        path.write_text(json.dumps(told))
        try:
            changed = read_certificate(path)
        except InputError as error:
            assert str(error).endswith(".")
            continue
        same = json.dumps(told, sort_keys=True) == json.dumps(whole, sort_keys=True)
        assert (changed.seal == stated.seal) is same, place
        if {"cutoffs", "joins", "fade"} & set(place):
            assert broken(output), place


def test_a_certificate_that_is_nested_to_do_harm_is_a_sentence(tmp_path):
    path = tmp_path / "a.certificate.json"
    path.write_text("[" * 60_000)
    with pytest.raises(InputError, match="cannot be read as a certificate"):
        read_certificate(path)
    assert read_short("[" * 60_000) == {}
