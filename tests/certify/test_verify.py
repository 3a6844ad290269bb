"""The null test of ``verify`` trusts nothing but samples: any change below the cutoff is found."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest
import torch
from test_engine import band_limited, write

from lily.audio.read import read_audio
from lily.audio.sample_hash import SampleHash
from lily.audio.write import write_audio
from lily.certify.metadata import read_metadata
from lily.certify.output_meter import OutputMeter
from lily.certify.paths import metadata_path
from lily.certify.verify import verify
from lily.cli import main
from lily.dsp.cutoffs import Cutoffs
from lily.errors import InputError
from lily.inference.events import ChunksDone, Finished
from lily.inference.options import UpsampleOptions as Options

CUTOFF = 6_000.0
NULL, WORST = "Null depth below the crossover", "Null depth, worst 0.34 s"
SAMPLES = "Samples are those in the metadata"


def failed(file: Path, against: Path | None = None, cutoff_hz=()) -> set[str]:
    verdict = verify(file, against, cutoff_hz)
    assert verdict.passed is not any(check.passed is False for check in verdict.checks)
    return {check.label for check in verdict.checks if check.passed is False}


def cutoff_row(file: Path, against: Path, cutoff_hz=()) -> str:
    (check,) = [c for c in verify(file, against, cutoff_hz).checks if c.label == "Cutoff"]
    assert check.passed is None
    return str(check.value)


def rewrite(file: Path, change) -> None:
    """Change the samples; the metadata stays."""
    samples = change(read_audio(file))
    file.unlink()
    write_audio(file, samples, 48_000)


def forge(file: Path, recording: Path, **changed) -> None:
    """Metadata that agrees in every figure with what the file holds now."""
    path, samples, digest = metadata_path(file), read_audio(file), SampleHash()
    digest.update(samples)
    facts = json.loads(path.read_text()) | changed
    facts["output"] |= {"sha256": digest.hexdigest(), "samples": samples.shape[-1]}
    cutoffs = Cutoffs.from_seconds(facts["cutoffs"], 48_000)
    meter = OutputMeter(cutoffs, 48_000, facts["joins"], facts["fade"])
    meter.push(recording=read_audio(recording), output=samples)
    path.write_text(json.dumps(facts))
    stated = read_metadata(path).model_copy(update={"measurements": meter.finish()})
    path.write_text(stated.model_dump_json())


CHANGES = {
    "one sample": lambda x: x.index_put(
        (torch.tensor(0), torch.tensor(70_000)), x[0, 70_000] + 0.1
    ),
    "level": lambda x: x * 0.99,
    "channels swapped": lambda x: x.flip(0),
    "a channel inverted": lambda x: x * torch.tensor([[1.0], [-1.0]]),
    "shifted by one sample": lambda x: x.roll(1, -1),
    "DC": lambda x: x + 0.001,
    "cut": lambda x: x[:, :-1],
    "longer": lambda x: torch.cat([x, x[:, :10]], -1),
}


def test_an_output_passes_with_and_without_its_recording_and_metadata(copy):
    recording, output = copy
    for against in (None, recording):
        assert failed(output, against) == set()
    metadata_path(output).unlink()
    assert failed(output, recording) == set()
    with pytest.raises(InputError, match="--against"):
        verify(output)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_an_output_of_the_bundled_model_passes(tmp_path, seconds):
    from lily.config.presets import load_config
    from lily.inference.engine import InferenceEngine

    recording = write(tmp_path / "a.wav", band_limited(seconds, CUTOFF, channels=1) / 10)
    engine = InferenceEngine(load_config("lily-mini"), device="cpu")
    result = engine.run_inference(recording, tmp_path / "out", seed=1)
    assert failed(result.output, recording) == set()


@pytest.mark.parametrize("name", CHANGES)
def test_changed_samples_are_found_even_if_the_metadata_agrees(copy, name):
    recording, output = copy
    rewrite(output, CHANGES[name])
    assert failed(output) == {SAMPLES}
    forge(output, recording)
    assert failed(output) == set()  # consistent with itself, which proves nothing
    found = failed(output, recording)
    assert SAMPLES not in found
    expected = {"level": NULL, "DC": "DC, change", "cut": "Length", "longer": "Length"}
    assert expected.get(name, WORST) in found


@pytest.mark.parametrize("stated_hz", [600.0, 23_000.0])
def test_a_tone_below_the_cutoff_is_found_whatever_cutoff_the_metadata_states(copy, stated_hz):
    """A loud tone at 1 kHz, with metadata that puts the crossover below it or far above."""
    recording, output = copy
    time = torch.arange(144_000, dtype=torch.float64)
    fade = torch.sin(math.pi * time / 144_000) ** 4  # keeps the tone out of the band below 540 Hz
    tone = (0.05 * fade * torch.sin(2 * math.pi * 1_000 / 48_000 * time)).float()
    rewrite(output, lambda x: x + tone)
    forge(output, recording, cutoffs=[[0.0, stated_hz]], cutoff_source="given", joins=[])
    if stated_hz < 1_000:
        stated = read_metadata(metadata_path(output))
        assert all(check.passed is not False for check in stated.checks())
    assert {NULL, WORST} <= failed(output, recording)
    assert f"the metadata states {stated_hz:,.0f} Hz (by hand)" in cutoff_row(output, recording)


def test_a_silent_recording_has_the_dc_limit_of_its_run(engine, tmp_path):
    """Nothing is generated there, whatever the cutoff, so no end of it leaves DC."""
    path = write(tmp_path / "silent.wav", torch.zeros(1, 4_800))
    output = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=500.0).output
    assert failed(output, path, ((0.0, 500.0),)) == set()
    rewrite(output, lambda x: x + 20 / 4_800)  # a third of a period of 500 Hz is 34 samples' worth
    assert "DC, change" in failed(output, path, ((0.0, 500.0),))


def test_a_full_recording_must_come_back_whole(engine, tmp_path):
    """Nothing is generated there, so a change at any frequency is one."""
    noise = 0.1 * torch.randn(1, 96_000, generator=torch.Generator().manual_seed(0))
    path = write(tmp_path / "full.wav", noise)
    output = engine.run_inference(path, tmp_path / "o", seed=0, steps=1).output
    assert failed(output, path) == set()
    rewrite(output, lambda x: x + 1e-3 * torch.sin(math.pi * 0.99 * torch.arange(96_000)))
    forge(output, path)
    assert NULL in failed(output, path)


def test_a_cutoff_chosen_by_hand_is_tested_only_when_the_tester_names_it(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(3.0, 12_000.0) / 20)
    lower = engine.run_inference(path, tmp_path / "low", seed=0, steps=1, cutoff_hz=5_000.0).output
    assert NULL in failed(lower, path)  # the recording between 4.5 and 10.8 kHz was replaced
    assert "the metadata states 5,000 Hz (by hand)" in cutoff_row(lower, path)
    assert failed(lower, path, ((0.0, 5_000.0),)) == set()
    assert cutoff_row(lower, path, ((0.0, 5_000.0),)).startswith("5,000 Hz as given, 11,9")
    higher = engine.run_inference(path, tmp_path / "up", seed=0, steps=1, cutoff_hz=16_000.0).output
    assert failed(higher, path) == set()  # everything up to the recording's own cutoff is there
    assert "the metadata states 16,000 Hz" in cutoff_row(higher, path)


def test_a_cutoff_that_changes_is_detected_and_tested_segment_by_segment(engine, tmp_path):
    wide = 0.02 * torch.randn(1, 9 * 48_000, generator=torch.Generator().manual_seed(1))
    path = write(tmp_path / "a.wav", torch.cat([band_limited(9.0, 4_000.0) / 20, wide], -1))
    output = engine.run_inference(path, tmp_path / "o", seed=0, steps=1).output
    assert len(read_metadata(metadata_path(output)).cutoffs) == 2
    assert failed(output, path) == set()
    late = torch.cat([torch.zeros(1, 13 * 48_000), 0.01 * band_limited(5.0, 20_000.0)], -1)
    rewrite(output, lambda x: x + late)  # in the segment with a full band
    assert WORST in failed(output, path)


def test_a_run_that_was_stopped_early_fails_by_its_length_alone(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(6.0, CUTOFF))
    stop = threading.Event()
    for event in engine.stream(path, tmp_path / "o", Options(seed=1, steps=2), stop=stop):
        if isinstance(event, ChunksDone):
            stop.set()
    assert isinstance(event, Finished)
    assert failed(event.result.output, path) == {"Length"}


def test_another_recording_is_found(copy, tmp_path):
    recording, output = copy
    other = read_audio(recording, 44_100)
    other[0, 5] += 2.0**-20
    path = write(tmp_path / "other.wav", other, 44_100)
    assert failed(output, path) == {"Recording is the one in the metadata"}
    mono = write(tmp_path / "mono.wav", other[:1], 44_100)
    assert failed(output, mono) == {"Channels"}


def test_the_same_samples_in_a_flac_pass(copy):
    recording, output = copy
    samples = read_audio(output)
    write_audio(output.with_suffix(".flac"), samples, 48_000)
    output.unlink()
    assert failed(output.with_suffix(".flac"), recording) == set()


def test_verify_on_the_command_line(copy, tmp_path, capsys):
    recording, output = copy
    against = ["--against", str(recording)]
    assert main(["verify", str(output), *against, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] and {"label", "value", "unit", "passed"} == facts["checks"][0].keys()
    assert main(["verify", str(output), *against, "--cutoff", "9000"]) == 1  # 8.1 kHz is generated
    rewrite(output, CHANGES["level"])
    assert main(["verify", str(output)]) == 1
    assert "FAILED" in capsys.readouterr().out
    plain = write(tmp_path / "plain.wav", torch.zeros(1, 100))
    for bad in ([plain], [tmp_path / "none.wav"], [metadata_path(output)], [output, "--cutoff", 9]):
        assert main(["verify", *map(str, bad)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Traceback" not in error


FOREIGN = {
    "another program's": b'{"title": "A song", "tracks": [1, 2]}',
    "a list": b"[1, 2, 3]",
    "empty": b"",
    "not UTF-8": b"\xff\xfe{\x00}\x00",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_json_of_something_else_beside_the_file_does_not_stop_the_null_test(copy, name):
    recording, output = copy
    metadata_path(output).write_bytes(FOREIGN[name])
    verdict = verify(output, recording)
    assert verdict.passed and verdict.metadata is None
    assert "is not the metadata" in str(verdict.checks[0].value)
    assert metadata_path(output).read_bytes() == FOREIGN[name]
    with pytest.raises(InputError, match="is not the metadata of an output"):
        verify(output)


def test_a_huge_json_beside_the_file_is_not_read(copy):
    recording, output = copy
    with metadata_path(output).open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert verify(output, recording).metadata is None
    with pytest.raises(InputError, match="is larger than"):
        verify(output)
