"""What a run of a large model takes is predicted, and a GPU's batch is what fits its memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_benchmark import recording
from test_engine import make_folder

from lily.checkpoints.folder_config import read_folder_config
from lily.cli.progress import follow
from lily.config.inference import InferenceConfig
from lily.config.presets import load_config, preset_names
from lily.config.sections import build
from lily.inference.engine import InferenceEngine
from lily.inference.events import Finished, Planned
from lily.inference.memory import AUDIOSR_MIB, GPU_ITEMS, fitting, items_for, predicted_bytes
from lily.inference.options import UpsampleOptions

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
GIB = 2**30


def settings(preset: str, **changes) -> InferenceConfig:
    config = load_config(preset)["inference"]
    return replace(build(InferenceConfig, config, "inference"), **changes)


def test_the_table_is_for_every_large_preset_and_holds_its_weights():
    for preset in preset_names():
        chosen, config = settings(preset), load_config(preset)
        assert (predicted_bytes(chosen, FP32) is not None) is chosen.large
        if chosen.large:
            basic = load_config("audiosr-basic")
            assert config["model"] == basic["model"]  # the networks that were measured
            assert chosen.chunk == settings("audiosr-basic").chunk
    for table in AUDIOSR_MIB.values():
        assert sorted(table.values()) == list(table.values())


def test_a_batch_between_two_rows_takes_the_larger_and_beyond_them_is_unknown():
    large = settings("audiosr-basic")
    assert predicted_bytes(replace(large, batch=3), FP32) == AUDIOSR_MIB[FP32][4] * 2**20
    assert predicted_bytes(replace(large, batch=9), FP32) is None
    assert predicted_bytes(large, FP16) == predicted_bytes(large, BF16) == 1_758 * 2**20


@pytest.mark.parametrize(
    ("precision", "gib", "items"),
    [(BF16, 80, 8), (BF16, 6, 8), (BF16, 4, 4), (BF16, 3, 2), (BF16, 1, 1), (FP32, 8, 4)],
)
def test_a_gpu_samples_as_many_items_as_fit_four_fifths_of_its_memory(precision, gib, items):
    assert fitting(settings("audiosr-basic"), precision, gib * GIB) == items
    assert fitting(settings("lily-mini"), precision, gib * GIB) == GPU_ITEMS


def test_a_cpu_samples_what_the_preset_says():
    for preset in preset_names():
        chosen = settings(preset)
        assert items_for(chosen, torch.device("cpu"), FP32) == chosen.batch


@pytest.mark.parametrize("large", [True, False])
def test_a_run_of_a_large_model_reports_its_memory_before_its_first_chunk(tmp_path, capsys, large):
    config = read_folder_config(make_folder(tmp_path / "model"))
    config["inference"] = {**config["inference"], "large": large}
    path = recording(tmp_path, 1.0)
    engine = InferenceEngine(config, device="cpu", precision="fp32")
    options = UpsampleOptions(seed=1, steps=1)
    events = list(engine.stream(path, tmp_path / "out", options))
    (planned,) = (event for event in events if isinstance(event, Planned))
    assert planned.memory == (AUDIOSR_MIB[FP32][2] * 2**20 if large else None)
    assert isinstance(events[-1], Finished) and follow(iter(events), path) is events[-1].result
    assert ("tensors take up to 4.1 GiB" in capsys.readouterr().err) is large
