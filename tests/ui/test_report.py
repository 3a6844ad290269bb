"""Laws of the report: nothing is left to defaults, and any file name survives a shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from lily.certify.check import Check
from lily.inference.events import UpsampleResult
from lily.ui.report import command, facts, figures
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


def test_facts_name_cutoff_chunks_factor_seed_steps_and_model():
    text = dict(facts(result())["facts"])
    assert text["Cutoff"] == "4.0 kHz"
    assert text["Chunks"] == "3"
    assert text["Real-time factor"] == "0.25"
    assert text["Seed"] == "11"
    assert text["Steps"].startswith("20")
    assert text["Model"] == "lily-mini"


def test_an_unchanged_recording_shows_its_message_and_no_settings():
    shown = facts(result(chunks=0, message="full band already"))
    assert shown["note"] == "full band already"
    assert "Seed" not in dict(shown["facts"])


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
    assert facts(result(checks=checks))["facts"][-1] == (
        "Checks",
        "2 checks passed, null depth below the crossover 114.2 dB, "
        "true peak of the output -2.6 dBTP",
    )
    checks = (*checks, Check("Length", "1 of 2", "samples", False))
    assert facts(result(checks=checks))["facts"][-1] == ("Checks", "failed: length")
    assert figures(result(checks=checks))["checks"][3]["passed"] is False
