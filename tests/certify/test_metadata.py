"""Every output has metadata beside it: the same run writes the same, both files or none appear."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch
from test_engine import band_limited, write

from lily.audio.read import read_audio
from lily.certify.metadata import read_metadata
from lily.certify.output_meter import OutputMeter
from lily.certify.paths import metadata_path
from lily.dsp.cutoffs import Cutoffs
from lily.errors import InputError

CUTOFF = 6_000.0


def failed(result) -> set[str]:
    return {check.label for check in result.checks if check.passed is False}


def test_the_metadata_says_how_an_output_was_made(made):
    recording, output = made
    stated = read_metadata(metadata_path(output))
    assert output.with_name("a.json") == metadata_path(output)
    for file, said in ((recording, stated.input), (output, stated.output)):
        info = soundfile.info(file)
        assert (said.samples, said.sample_rate) == (info.frames, info.samplerate)
    assert (stated.settings.seed, stated.settings.steps, stated.settings.encoder) == (3, 2, True)
    assert stated.input.sample_rate == 44_100 and len(stated.settings.weights_sha256[0]) == 64
    ends_hz = CUTOFF * 44_100 / 48_000  # the file says 44.1 kHz
    assert stated.cutoff_source == "detected"
    assert stated.cutoffs == ((0.0, pytest.approx(ends_hz, 0.03)),)
    assert stated.generated and len(stated.joins) > 1 and stated.fade > 0
    assert all(check.passed is not False for check in stated.checks())


def test_the_audio_file_has_an_ordinary_comment(made):
    with soundfile.SoundFile(made[1]) as file:
        assert file.comment.startswith("Generated above ") and "Lily" in file.comment


def test_the_same_run_writes_the_same_metadata_whatever_the_file_is_called(engine, made, tmp_path):
    recording, output = made
    other = tmp_path / "another name.wav"
    other.write_bytes(recording.read_bytes())
    engine.run_inference(other, tmp_path / "o", seed=3, steps=2)
    again = tmp_path / "o" / "another name.wav"
    assert again.read_bytes() == output.read_bytes()
    assert metadata_path(again).read_bytes() == metadata_path(output).read_bytes()


def test_figures_taken_while_writing_are_those_of_the_whole_signals(made):
    recording, output = made
    stated = read_metadata(metadata_path(output))
    cutoffs = Cutoffs.from_seconds(stated.cutoffs, 48_000)
    meter = OutputMeter(cutoffs, 48_000, stated.joins, stated.fade)
    meter.push(output=read_audio(output))
    meter.push(recording=read_audio(recording))
    assert meter.finish() == stated.measurements


def test_where_the_cutoff_came_from_is_recorded(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(3.0, 12_000.0))
    pieces = ((0.0, 12_000.0), (1.0, 5_000.0), (2.0, 22_000.0))
    result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=pieces)
    stated = read_metadata(result.metadata)
    assert (stated.cutoffs, stated.cutoff_source) == (pieces, "given")
    assert failed(result) == set()
    result = engine.run_inference(path, tmp_path / "p", profile="audiosr", steps=1, encoder=False)
    assert read_metadata(result.metadata).cutoff_source == "profile"


def test_flac_has_metadata_too_and_becomes_a_float_wav_where_it_would_clip(engine, tmp_path):
    quiet, loud = band_limited(1.0, CUTOFF) / 20, band_limited(1.0, CUTOFF)
    loud *= 0.98 / loud.abs().max()
    loud[0, 24_000] = -1.2
    options = {"seed": 1, "steps": 1, "cutoff_hz": CUTOFF, "format": "flac"}
    for name, samples, ending in (("quiet", quiet, "flac"), ("loud", loud, "wav")):
        path = write(tmp_path / f"{name}.wav", samples)
        result = engine.run_inference(path, tmp_path / "o", **options)
        assert result.output.name == f"{name}.{ending}" and result.output.exists()
        assert result.metadata.name == f"{name}.json" and failed(result) == set()
        with pytest.raises(InputError, match="exists already"):
            engine.run_inference(path, tmp_path / "o", **options)


def test_full_silent_and_very_short_recordings_have_metadata(engine, tmp_path):
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
        assert failed(result) == set(), name
        assert read_metadata(result.metadata).checks() == result.checks, name


def test_audio_and_metadata_get_their_names_together_or_not_at_all(engine, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "a.wav", band_limited(1.0, CUTOFF))
    monkeypatch.setattr("lily.certify.metadata.OutputMetadata.model_dump_json", full)
    with pytest.raises(OSError):
        engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=CUTOFF)
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["a.wav.part"]  # its chunks


def test_metadata_that_is_there_is_not_overwritten(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(1.0, CUTOFF))
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "a.json").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        engine.run_inference(path, tmp_path / "o", cutoff_hz=CUTOFF)
    assert (tmp_path / "o" / "a.json").read_text() == "mine"


def nodes(value, place=()):
    """The places of every value in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from nodes(inner, (*place, key))
        yield (*place, key)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {}, "\x00", True])
def test_a_value_of_the_wrong_type_is_one_sentence(copy, value):
    """Every value in turn, unless the type allows it."""
    path = metadata_path(copy[1])
    whole = json.loads(path.read_text())
    for place in nodes(whole):
        changed = json.loads(json.dumps(whole))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        if isinstance(inner[place[-1]], type(value)):
            continue
        inner[place[-1]] = value
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match="is not the metadata of an output") as caught:
            read_metadata(path)
        assert "\n" not in str(caught.value), place


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "lily-output/9"}', "[" * 60_000])
def test_what_is_not_metadata_is_one_sentence(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not the metadata of an output"):
        read_metadata(path)
