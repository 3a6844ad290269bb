"""Laws of takes: another seed for one chunk changes the samples of its place, and no other bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from test_engine import make_folder

from lily.certify.metadata import read_metadata
from lily.checkpoints.folder_config import read_folder_config
from lily.cli import main
from lily.errors import InputError
from lily.inference.engine import InferenceEngine
from lily.inference.events import Finished, Planned, Sampling
from lily.inference.options import UpsampleOptions, format_takes, parse_takes
from lily.model.vocoder import HALO

RATE = 48_000
# Beside the cross-fades, a chunk reaches as far as the vocoder and the filters see: frames of
# 10 ms, and 0.15 s for the crossover and the short-time level.
REACH = HALO / 100 + 0.15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def engine(folder) -> InferenceEngine:
    return InferenceEngine(read_folder_config(folder), "cpu")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    samples = 0.1 * torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("in") / "take.wav"
    soundfile.write(path, samples.T.numpy(), 8_000)
    return path


def restored(engine, recording, out, **options):
    """A run's result, its samples, its plan and the chunks that were sampled."""
    chosen = UpsampleOptions(**({"seed": 3, "steps": 2} | options))
    sampled, plan = set(), ()
    for event in engine.stream(recording, out, chosen):
        if isinstance(event, Sampling):
            sampled |= set(event.chunks)
        elif isinstance(event, Planned):
            plan = event.chunks
        elif isinstance(event, Finished):
            samples = soundfile.read(event.result.output, dtype="float32")[0]
            return event.result, samples, plan, sampled
    raise AssertionError("no result")


def test_a_take_changes_its_place_and_no_other_bit(engine, recording, tmp_path):
    result, plain, plan, _ = restored(engine, recording, tmp_path / "a")
    joins = read_metadata(result.metadata).joins
    chunk = len(plan) // 2
    assert 0 < chunk < len(joins)
    second = (joins[chunk - 1] + joins[chunk]) / 2
    taken, other, _, _ = restored(engine, recording, tmp_path / "b", takes=((second, 9),))
    fade = read_metadata(result.metadata).fade
    first = round((joins[chunk - 1] - fade / 2 - REACH) * RATE)
    last = round((joins[chunk] + fade / 2 + REACH) * RATE)
    assert 0 < first < last
    assert np.array_equal(other[:first], plain[:first])
    assert np.array_equal(other[last:], plain[last:])
    inside = slice(round(joins[chunk - 1] * RATE), round(joins[chunk] * RATE))
    assert not np.array_equal(other[inside], plain[inside])
    assert taken.takes == ((second, 9),) == read_metadata(taken.metadata).settings.takes


def test_a_take_is_what_a_run_with_its_seed_makes_of_that_chunk(engine, recording, tmp_path):
    second = 2.0
    kept = {"keep_chunks": True, "resume": True}
    restored(engine, recording, tmp_path / "a", chunk_folder=tmp_path / "c", **kept)
    taken = {"takes": ((second, 9),), "chunk_folder": tmp_path / "c"}
    restored(engine, recording, tmp_path / "b", **taken, **kept)
    other = {"seed": 9, "chunk_folder": tmp_path / "d"}
    restored(engine, recording, tmp_path / "e", **other, **kept)
    (file,) = (tmp_path / "c").glob("*-9.chunk")
    chunk = file.name.split("-")[0]
    body = (tmp_path / "d" / f"{chunk}-0.chunk").read_bytes()[16:]
    assert file.read_bytes()[16:] == body  # behind the checksum, which holds the run's key


def test_with_kept_chunks_only_the_place_is_generated_again(engine, recording, tmp_path):
    kept = {"keep_chunks": True, "resume": True, "chunk_folder": tmp_path / "chunks"}
    _, plain, plan, all_chunks = restored(engine, recording, tmp_path / "a", **kept)
    assert len(all_chunks) == len(plan)
    takes = ((2.0, 9),)
    result, first, _, sampled = restored(engine, recording, tmp_path / "b", takes=takes, **kept)
    assert len(sampled) == 1 and result.complete and result.resumed == len(plan) - 1
    fresh = restored(engine, recording, tmp_path / "c", takes=takes)[1]
    assert np.array_equal(first, fresh)
    back, again, _, sampled = restored(engine, recording, tmp_path / "d", **kept)
    assert not sampled and np.array_equal(again, plain)  # the run's own chunks are still there


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (((4.5, 1),), "no chunk at 4.5 s"),
        (((0.1, 1), (0.2, 2)), "has a take already"),
        (((0.1, -1),), "seed of a take"),
    ],
)
def test_takes_that_cannot_be_are_refused(engine, recording, tmp_path, takes, words):
    with pytest.raises(InputError, match=words):
        restored(engine, recording, tmp_path / "o", takes=takes)
    assert not list((tmp_path / "o").glob("*.wav"))


@pytest.mark.parametrize("text", ["", "9", "1:2:3", "a:1", "1:b", "1:2.5", "-1:2", "nan:1"])
def test_takes_are_pairs_of_a_second_and_a_seed(text):
    with pytest.raises(InputError, match="SECOND:SEED"):
        parse_takes(text)


def test_takes_survive_being_written():
    takes = ((12.5, 9), (40.0, 3))
    assert parse_takes(format_takes(takes)) == takes and format_takes(takes) == "12.5:9,40:3"


def test_the_command_line_takes_them(folder, recording, tmp_path, capsys):
    command = ["upsample", recording, "-o", tmp_path / "o", "--weights", folder, "--seed", "3"]
    command += ["--takes", "2:9", "--steps", "2", "--device", "cpu", "--json"]
    assert main([*map(str, command)]) == 0
    assert json.loads(capsys.readouterr().out)["takes"] == [[2.0, 9]]
    with pytest.raises(SystemExit):
        main(["upsample", str(recording), "-o", "o", "--takes", "2"])
