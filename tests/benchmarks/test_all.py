"""The command that redoes the page's tables, rehearsed with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import make_folder

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--rounds", "1", "--seconds", "2", "--growth", "1", "2")


def tables(out: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "all.py"), str(out), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def counters(folder: Path, energy: str) -> Path:
    for name in ("intel-rapl:0", "intel-rapl:0:0"):
        zone = folder / name
        zone.mkdir(parents=True)
        (zone / "energy_uj").write_text(energy)
        (zone / "max_energy_range_uj").write_text("262143328850")
    return folder


@pytest.mark.slow
def test_every_part_leaves_its_json_and_its_table(tmp_path):
    model, out = make_folder(tmp_path / "model"), tmp_path / "out"
    powercap = counters(tmp_path / "powercap", "500000")
    done = tables(out, "--model", model, *QUICK, "--powercap", powercap)
    assert done.returncode == 0, (done.stderr, [log.read_text() for log in out.glob("*.log")])
    page = (out / "tables.md").read_text()
    assert page.strip() == "# Benchmarks\n\n" + done.stdout.strip()
    assert "| outside the networks |" in page and "Exponent: " in page
    assert page.count("Energy: 0 J") == 3  # the counter stands still
    runs = json.loads((out / "growth.json").read_text())["growth"]["runs"]
    assert [row["seconds"] for row in runs] == [1.0, 2.0]
    assert runs[0]["peak_memory_mib"] <= runs[1]["peak_memory_mib"]
    stereo = json.loads((out / "stereo.json").read_text())
    assert stereo["audio"] == {"seconds": 2.0, "channels": 2}
    assert "Not measured: give --audiosr and --weights." in page
    assert "Not measured: give --corpus and --split." in page


@pytest.mark.slow
def test_a_part_that_fails_is_named_and_stops_no_other(tmp_path):
    broken, out = tmp_path / "gone", tmp_path / "out"
    done = tables(out, "--model", broken, "--only", "stereo", "growth", *QUICK)
    assert done.returncode == 1
    page = (out / "tables.md").read_text()
    assert page.count("Failed with exit code 2: see ") == 2
    assert "gone" in (out / "stereo.log").read_text()


def test_energy_is_a_difference_of_counters_that_may_start_over(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import all as every

    assert every.energy({}, {}) == "not readable"
    assert every.joules(tmp_path / "none") == {}
    found = every.joules(counters(tmp_path, "7"))
    assert found == {"intel-rapl:0": (7, 262143328850)}  # a subzone is part of it
    used = every.energy({"a": (9_000_000, 9_999_999)}, {"a": (1_000_000, 9_999_999)})
    assert used.startswith("2 J")
