"""Laws of an evaluation: cases degrade what they say, controls differ, the table adds up."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

from lily.audio.write import write_audio
from lily.checkpoints.model_folder import save_model_folder
from lily.cli import evaluate as evaluate_command
from lily.config.presets import MelConfig, load_config
from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.dsp.mel import LogMel
from lily.evaluation.cases import degrade_for
from lily.evaluation.informed import INFORMED, true_settings
from lily.evaluation.metrics import distances
from lily.evaluation.report import differences, plot, summarise
from lily.evaluation.run import CONTROLS, SYSTEMS, Row, _Item, _Run, by_name, evaluate
from lily.evaluation.settings import Case, Settings
from lily.inference.engine import InferenceEngine
from lily.training.train import _build, with_profile

pytestmark = pytest.mark.slow


def recording(seed: int, seconds: float = 2.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(1, round(48_000 * seconds), generator=generator)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Three recordings of two sources through every system of two cases."""
    folder = tmp_path_factory.mktemp("evaluation")
    files = []
    for seed, source in enumerate("aab"):
        path = folder / f"{source}__{seed}.wav"
        soundfile.write(path, recording(seed).T.numpy(), 48_000, subtype="FLOAT")
        files.append((path, "music", source))
    config = with_profile(load_config("tiny"))
    config["inference"] = {**config["inference"], "pair_memory": True}
    model = _build(config, 0)
    for module in model.unet.conditioned():  # a context that is heard
        torch.nn.init.normal_(module.global_out.weight, generator=torch.Generator().manual_seed(1))
    save_model_folder(model, config, folder / "model", dtype=torch.float32)
    engine = InferenceEngine({**config, "weights": {"folder": str(folder / "model")}}, "cpu")
    cases = (Case("lowpass", 8_000.0), Case("changing", 4_000.0))
    settings = Settings(
        cases=cases, seeds=2, controls=("changing_4000hz",), informed=("lowpass_8000hz",)
    )
    return list(evaluate(engine, files, settings))


def value(rows, name: str, case: str, system: str) -> float:
    return next(
        r.figures["lsd_hf"] for r in rows if (r.name, r.case, r.system) == (name, case, system)
    )


def test_every_recording_goes_through_every_system_once(rows):
    # The recording that is alone in its source has nothing to borrow.
    assert len(rows) == 3 * (2 * len(SYSTEMS) - len(CONTROLS) - len(INFORMED)) - 1
    assert [r.name for r in rows if r.system == "borrowed"] == ["a__0.wav", "a__1.wav"]
    assert len({(r.name, r.case, r.system) for r in rows}) == len(rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a__de__2", "a__de__3"), ("a__de__3", "a__de__1"), ("a__fr__1", "a__nl__1")],
)
def test_what_is_borrowed_has_the_nearest_name(name, expected):
    names = ["a__de__1", "a__de__2", "a__de__3", "a__fr__1", "a__nl__1", "b__fr__1"]
    others = [Path("voices", other) for other in names if other != name]
    assert by_name(Path("voices", name), others)[0] == Path("voices", expected)


def test_what_is_borrowed_may_be_a_recording_that_is_not_measured():
    silence, items = torch.zeros(1, 1), []
    for name, source in (("a/x__1", "a"), ("b/x__1", "b"), ("tone", "tones")):
        path = None if source == "tones" else Path(name)
        items.append(_Item("music", source, silence, name, path))
    whole = {"a": [Path("a/x__1"), Path("a/y__1"), Path("a/x__2")], "b": [Path("b/x__1")]}
    engine = SimpleNamespace(settings=SimpleNamespace(pair_memory=True))
    case = Case("lowpass", 4e3)
    run = _Run(engine, items, Settings(cases=(case,)), case, Path(), whole)
    assert run._lenders(0, "borrowed") == [Path("a/x__2"), Path("a/y__1")]
    assert run._lenders(1, "borrowed") == []
    assert run._lenders(1, "stranger") == [Path("a/x__1")]
    assert run._lenders(2, "borrowed") == run._lenders(2, "stranger") == []


def test_other_contexts_give_other_results(rows):
    for control in (*CONTROLS, "off"):
        case = "changing_4000hz"
        assert value(rows, "a__0.wav", case, control) != value(rows, "a__0.wav", case, "on")


def test_what_is_known_gives_other_results(rows):
    for system in INFORMED:
        assert value(rows, "a__0.wav", "lowpass_8000hz", system) != value(
            rows, "a__0.wav", "lowpass_8000hz", "on"
        )


def test_true_settings_are_those_of_the_reference():
    mel = LogMel(MelConfig())
    reference = filter_whole(recording(5), lowpass_kernel(16_000, 16_500, 48_000))
    low = filter_whole(reference, lowpass_kernel(8_000, 8_200, 48_000))
    blind = low + 0.5 * (reference - low)  # highs that are 6 dB too quiet
    found = true_settings(reference, blind, 8_000.0, mel)
    assert found["wall_hz"] == pytest.approx(16_250, rel=0.03)
    assert found["brightness_db"] == pytest.approx(6.0, abs=0.3)
    assert true_settings(reference, reference, 8_000.0, mel)["brightness_db"] == 0


def test_an_average_of_draws_is_nearer_than_a_draw(rows):
    for row in rows:
        if row.system == "on":
            assert row.figures["averaged_lsd_hf"] < row.figures["lsd_hf"]


def test_the_summary_holds_means_and_intervals_and_can_be_drawn(rows, tmp_path):
    summary = summarise(rows)
    cell = next(
        c for c in summary["table"] if (c["case"], c["system"]) == ("lowpass_8000hz", "noise")
    )
    expected = [r.figures["lsd_hf"] for r in rows if (r.case, r.system) == (cell["case"], "noise")]
    assert cell["lsd_hf"] == pytest.approx(sum(expected) / 3, abs=1e-3)
    pairs = {d["pair"] for d in summary["differences"]}
    assert pairs == {"on - off"} | {f"{system} - on" for system in (*CONTROLS, *INFORMED)}
    assert all(path.stat().st_size > 10_000 for path in plot(rows, tmp_path))


def test_patchiness_is_compared_by_its_distance_from_that_of_the_recording():
    figures = {"on": (0.9, 1.1), "off": (0.5, 1.75)}
    rows = [
        Row(name, "music", 40.0, "a", system, 8e3, {"lsd_hf": 1.0, "patchiness": value}, name)
        for system, values in figures.items()
        for name, value in zip("xy", values, strict=True)
    ]
    found = [d for d in differences(rows) if d["measure"] == "patchiness_error"]
    assert {d["of"] for d in found} == {"all", "30 s and more"}
    assert all(d["mean"] == pytest.approx(0.1 - (0.5 + 0.75) / 2) for d in found)


def test_a_changing_case_keeps_its_wide_part_and_judges_the_narrow_one():
    reference = recording(3, 6.0)
    for index in (0, 1):
        degraded = degrade_for(Case("changing", 4_000.0), reference, index)
        wide = torch.ones(reference.shape[-1], dtype=torch.bool)
        wide[degraded.judged] = False
        edge = 2_000
        inside = wide.nonzero()[edge:-edge, 0]
        assert torch.equal(degraded.samples[:, inside], reference[:, inside])
        judged = slice(degraded.judged.start, degraded.judged.stop)
        found = distances(reference[:, judged], degraded.samples[:, judged], 4_000.0)
        assert found.lsd_hf > 2


def test_a_codec_case_begins_where_the_codec_ends():
    degraded = degrade_for(Case("mp3", 32.0), recording(4, 6.0), 0)
    assert degraded.samples.shape == (1, 288_000)
    assert 2_000 < degraded.cutoff_hz < 16_000


def test_a_collection_counts_as_one_however_many_recordings_it_has(rows):
    case, system = "lowpass_8000hz", "noise"
    first, second, other = (
        value(rows, name, case, system) for name in ("a__0.wav", "a__1.wav", "b__2.wav")
    )
    line = next(
        c for c in summarise(rows)["by_collection"] if (c["case"], c["system"]) == (case, system)
    )
    assert line["collections"] == 2
    assert line["lsd_hf"] == pytest.approx(((first + second) / 2 + other) / 2, abs=1e-3)


def test_tonality_is_averaged_over_tonal_frames(rows):
    figures = {"lsd_hf": 1.0, "persistence": 0.4, "match": None, "tonal_frames": 3}
    others = {**figures, "persistence": 0.1, "tonal_frames": 1}
    row = next(r for r in rows if r.system == "on")
    table = summarise([replace(row, figures=figures), replace(row, name="x", figures=others)])
    assert table["table"][0]["persistence"] == pytest.approx(0.325)
    assert table["table"][0]["match"] is None


def test_the_reference_is_at_no_distance_from_itself(rows):
    own = [row for row in rows if row.system == "reference"]
    assert len(own) == 6
    assert all(row.figures["lsd_hf"] == row.figures["bias_db"] == 0 for row in own)


def test_a_limit_spreads_over_all_recordings(tmp_path):
    """Also where it is more than half of them: the last ones must not all be left out."""
    (tmp_path / "music").mkdir()
    for number in range(10):
        write_audio(tmp_path / "music" / f"s{number}__a.wav", torch.zeros(1, 4_800), 48_000)
    options = argparse.Namespace(folder=tmp_path, split=None, limit=7)
    names = [path.stem for path, _, _ in evaluate_command._files(options)]
    assert names == [f"s{n}__a" for n in (0, 1, 2, 4, 5, 7, 8)]
