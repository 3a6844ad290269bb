"""The benchmark and the precisions: their figures add up, and half precision stays near float32."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from lily.audio.read import probe, read_audio
from lily.cli import main
from lily.config.presets import load_config
from lily.errors import InputError
from lily.evaluation.benchmark import StageClock, bench, report, slope, write_recording
from lily.evaluation.metrics import distances
from lily.evaluation.settings import BenchSettings
from lily.inference.engine import InferenceEngine
from lily.inference.options import UpsampleOptions


def recording(folder: Path, seconds: float) -> Path:
    return write_recording(folder / "noise.wav", seconds, 1)


@pytest.mark.slow
def test_stages_add_up_and_evaluations_are_counted():
    engine = InferenceEngine(load_config("lily-mini"), device="cpu")
    settings = BenchSettings(seconds=6.0, rounds=1, growth=(1.0, 2.0))
    rows = list(bench(engine, UpsampleOptions(steps=2, guidance=1.5), settings))
    names = [name for name, _ in rows]
    assert names == [
        *("setup", "round", "round", "rounds", "encoder", "growth_run", "growth_run", "growth"),
        "memory",
    ]
    facts = report(rows)
    for row in facts["rounds"].values():
        assert sum(row["stages"].values()) == pytest.approx(row["seconds"], abs=0.01)
        assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)
        outside = sum(row["shares"][stage] for stage in ("measure", "read", "rest"))
        assert row["outside_networks"] == pytest.approx(outside, abs=1e-3)
        assert row["chunks"] == 2
        assert all(row["stages"][stage] >= 0 for stage in row["stages"])
        # Two chunks fit one batch, and guidance doubles its rows.
        assert row["evaluations"] == 2
        assert row["evaluated_rows"] == 2 * 2 * engine.settings.batch
    assert set(facts["rounds"]) == {"on", "off"}
    assert facts["rounds"]["on"]["stages"]["encoder"] > 0
    assert facts["rounds"]["off"]["stages"]["encoder"] == 0
    assert [row["seconds"] for row in facts["growth"]["runs"]] == [1.0, 2.0]
    assert facts["predicted_mib"] is None and facts["peak_memory_mib"] > 0
    json.dumps(facts)


def test_the_encoder_counts_as_a_network_wherever_its_weights_are_used():
    engine = InferenceEngine(load_config("lily-mini"), device="cpu")
    ticks = iter(range(1_000))
    clock = StageClock(engine, clock=lambda: float(next(ticks)))
    unet = engine.model.unet
    log_mel = torch.zeros(1, 1, 256, 64)
    with clock.watching(), torch.inference_mode():
        context = unet.global_encoder(log_mel)  # its features, then the transformer
        unet.context_cache(context)
    assert clock.seconds["encoder"] == 3.0  # three calls of one tick
    with torch.inference_mode():
        unet.context_cache(unet.global_encoder(log_mel))
    assert clock.seconds["encoder"] == 3.0  # the clock no longer runs


def test_a_power_law_gives_its_exponent():
    durations = [60.0, 240.0, 900.0]
    times = [math.log(0.03 * d**1.2) for d in durations]
    assert slope([math.log(d) for d in durations], times) == pytest.approx(1.2)


def test_the_recording_is_as_long_as_asked_and_the_same_every_time(tmp_path):
    first = read_audio(write_recording(tmp_path / "a.wav", 12.3, 2))
    again = read_audio(write_recording(tmp_path / "b.wav", 12.3, 2))
    assert first.shape == (2, round(12.3 * 48_000)) and torch.equal(first, again)
    assert probe(tmp_path / "a.wav").sample_rate == 48_000


def test_settings_of_no_use_are_refused(capsys):
    assert main(["bench", "--no-start", "--rounds", "0"]) == 2
    assert "at least one round" in capsys.readouterr().err
    engine = InferenceEngine(load_config("lily-mini"), device="cpu")
    with pytest.raises(InputError, match="two durations"):
        list(bench(engine, UpsampleOptions(), BenchSettings(growth=(5.0,))))


@pytest.mark.slow
def test_bfloat16_stays_near_float32(tmp_path):
    path, made = recording(tmp_path, 4.0), {}
    for precision in ("fp32", "bf16"):
        engine = InferenceEngine(load_config("lily-mini"), "cpu", precision)
        result = engine.run_inference(path, tmp_path / precision, seed=3)
        made[precision] = read_audio(result.output)
    given = read_audio(path)
    apart = distances(made["fp32"], made["bf16"], 8_000.0)
    print(f"\nbfloat16 against float32: LSD {apart.lsd:.3f}, LSD-HF {apart.lsd_hf:.3f}")
    assert apart.lsd_hf < 0.15  # two seeds differ by 1 and more
    # What was recorded is not the networks': both precisions keep it alike.
    spectra = [torch.fft.rfft(made[name].double()).abs() for name in ("fp32", "bf16")]
    bins = int(7_000 * given.shape[-1] / 48_000)
    low = [spectrum[..., :bins] for spectrum in spectra]
    assert (low[0] - low[1]).square().sum() < 1e-6 * low[0].square().sum()
