"""Laws of the report: nothing is left to defaults, and any file name survives a shell."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from lily.bandwidth.diagnosis import Diagnosis
from lily.certify.check import RECORDED_PEAK, TRUE_PEAK, Check
from lily.evaluation.comparison import Comparison
from lily.evaluation.metrics import Distances
from lily.inference.events import ContextUse, UpsampleResult
from lily.ui.report import command, facts, figures, scores, segments_of, summary
from lily.ui.request import Request


def result(**changes) -> UpsampleResult:
    values = {
        "output": Path("/tmp/x/song.wav"),
        "sample_rate": 48_000,
        "channels": 2,
        "samples": 480_000,
        "cutoff_hz": 4000.0,
        "chunks": 3,
        "seed": 11,
        "steps": 20,
        "sampler": "ddim",
        "guidance": 1.5,
        "encoder": True,
        "model": "lily-mini",
        "seconds": 10.0,
        "compute_seconds": 2.5,
        "input_sample_rate": 8000,
        "subtype": "PCM_24",
    }
    return UpsampleResult(**(values | changes))


def words_of(request: Request) -> list[str]:
    return shlex.split(command(request, result()))


def test_the_command_states_every_setting():
    line = command(Request(Path("/cache/song.wav"), "lily-mini"), result())
    assert line == (
        "python -m lily upsample song.wav -o out --preset lily-mini --encoder on --steps 20 "
        "--sampler ddim --guidance 1.5 --seed 11"
    )


def test_a_comparison_is_a_command_of_its_own():
    words = words_of(Request(Path("a.wav"), "p", "both", reference=Path("/cache/r.wav")))
    assert words[3] == "compare" and "--encoder" not in words
    assert words[-2:] == ["--reference", "r.wav"]


def test_a_cutoff_is_named_only_if_it_was_given():
    assert "--cutoff" not in words_of(Request(Path("a.wav"), "p"))
    assert words_of(Request(Path("a.wav"), "p", cutoff_hz=3500.0))[-2:] == ["--cutoff", "3500"]


@pytest.mark.parametrize("name", ["my song.wav", "-rf.wav", "a$(id).wav", "it's;ls.wav"])
def test_any_file_name_stays_one_argument(name):
    words = words_of(Request(Path(name), "p"))
    assert words[4] in {name, f"./{name}"}
    assert not words[4].startswith("-")


def test_facts_name_cutoff_chunks_speed_seed_steps_and_model():
    text = dict(facts(result()))
    assert text["Lowest cutoff"] == "4.0 kHz"
    assert text["Chunks of about 5 s"] == "3"
    assert text["Speed"] == "4 times as fast as it plays"
    assert text["Seed"] == "11"
    assert text["Steps"].startswith("20")
    assert text["Model"] == "lily-mini"


def test_an_unchanged_recording_shows_why_once_and_no_settings():
    full = Diagnosis("full", ((0.0, 24_000.0),), "", 0.0, 0, 0.0, text="The band is full.")
    unchanged = result(chunks=0, message="Nothing was generated.", diagnosis=full)
    assert summary(unchanged) == "The band is full. Nothing was generated."
    assert facts(unchanged) == [("Length", "10.0 s"), ("Output", "48 kHz, 24-bit, stereo")]
    assert segments_of(unchanged) == []


def test_the_summary_says_what_was_kept_and_what_was_generated():
    assert summary(result()) == (
        "Below 4.0 kHz the recording is untouched. Everything above was generated to fit it: "
        "plausible, not recovered."
    )
    changing = Diagnosis("changing", ((0.0, 20_400.0), (7.0, 4_000.0)), "", 0.0, 0, 0.0)
    found = result(diagnosis=changing)
    assert segments_of(found) == [[7.0, 10.0, 4000.0]]
    assert "from 7.0 s above 4.0 kHz" in summary(found)


def test_borrowed_recordings_are_among_the_facts():
    use = ContextUse(("choir.flac",), 0.41)
    assert ("Borrowed", use.sentence) in facts(result(context=use))
    assert figures(result(context=use))["context"] == {"files": ("choir.flac",), "share": 0.41}


def test_the_summary_says_what_to_do_about_a_peak_above_full_scale():
    checks = (Check(RECORDED_PEAK, -1.0, "dBTP"), Check(TRUE_PEAK, 1.84, "dBTP"))
    loud = result(checks=checks, subtype="FLOAT")
    assert "lower it by 1.9 dB before it is played" in summary(loud)
    assert figures(loud)["peak_note"] == loud.peak_note
    assert not result(checks=checks, chunks=0).peak_note  # the recording, as it was


def test_the_cutoff_that_was_given_is_drawn_not_the_one_that_was_found():
    assert segments_of(result(cutoff_hz=3000.0), 3000.0) == [[0.0, 10.0, 3000.0]]
    given = ((0.0, 3000.0), (4.0, 21_000.0), (8.0, 5000.0))
    assert segments_of(result(), given) == [[0.0, 4.0, 3000.0], [8.0, 10.0, 5000.0]]


def test_figures_are_json_and_hold_no_server_path():
    text = json.dumps(figures(result()))
    assert "/tmp" not in text
    assert json.loads(text)["encoder"] == "on"


def test_the_checks_are_one_line_that_names_what_failed():
    checks = (
        Check("Null depth below the crossover", 114.2, "dB", True),
        Check("DC, change", 0.0, "of full scale", True),
        Check("True peak of the output", -2.6, "dBTP"),
    )
    assert facts(result(checks=checks))[-1] == (
        "Checks",
        "2 checks passed, null depth below the crossover 114.2 dB, "
        "true peak of the output -2.6 dBTP",
    )
    checks = (*checks, Check("Length", "1 of 2", "samples", False))
    assert facts(result(checks=checks))[-1] == ("Checks", "failed: length")
    assert figures(result(checks=checks))["checks"][3]["passed"] is False
    part = facts(result(checks=checks, complete=False))[-1]  # which is shorter, as it should be
    assert part[0] == "Checks of this part" and part[1].startswith("2 checks passed")


def test_what_the_encoder_was_given_is_in_the_command():
    asked = Request(
        Path("/cache/song.wav"),
        "lily-mini",
        context_files=(Path("/cache/b/album.flac"),),
        wall_hz=16_000.0,
        brightness_db=-3.0,
    )
    words = shlex.split(command(asked, result()))
    assert words[words.index("--context") + 1] == "album.flac"
    assert words[words.index("--wall") + 1] == "16000" and "--brightness=-3" in words


def test_what_the_encoder_expects_is_among_the_facts():
    expected = "Expects the highs to end near 16 kHz, of average brightness."
    assert ("The encoder", expected) in facts(replace(result(), expectation=expected))
    assert "The encoder" not in dict(facts(result()))


@pytest.mark.parametrize(
    ("before", "off", "on", "sentence"),
    [
        (3.0, 2.0, 1.0, "Both results are closer to the reference than the recording"),
        (3.0, 2.0, 4.0, "With the encoder off the result is closer"),
        (1.0, 2.0, 3.0, "neither result is closer"),
    ],
)
def test_a_sentence_reads_the_distances(before, off, on, sentence):
    far = {"input": before, "off": off, "on": on}
    of = {name: Distances(hf, hf, 0.0, 0.0, None, None, 9, 0, 0) for name, hf in far.items()}
    table = scores(Comparison(None, (), 0.0, (), of, None))
    assert sentence in table["caption"]
    assert [row[0] for row in table["rows"]] == ["Before", "Encoder off", "Encoder on"]
