"""``lily batch``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_engine import band_limited, make_folder, write

from lily.batch.progress import Progress
from lily.cli import main
from lily.cli.batch import standing


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tapes(tmp_path) -> Path:
    folder = tmp_path / "tapes"
    folder.mkdir()
    for n in range(2):
        write(folder / f"{n}.wav", band_limited(0.3, 4000.0, seed=n))
    return folder


def test_progress_tells_hours_factor_and_time_left():
    progress = Progress(files=10, size=1000, finished_seconds=7200.0, work_size=250)
    progress.settled_size, progress.began = 500, progress.began - 720
    text = standing(progress)
    assert text.startswith("2.00 h of audio, real-time factor 0.10, 0:24:")


def test_the_command_line_exits_with_1_if_a_recording_or_a_check_failed(
    model, tapes, tmp_path, capsys, monkeypatch
):
    asked = ["batch", str(tapes), str(tmp_path / "out"), "--weights", str(model), "--steps", "1"]
    assert main([*asked, "--json"]) == 0
    printed = capsys.readouterr()
    assert {json.loads(line)["status"] for line in printed.out.splitlines()} == {"done"}
    assert "2 done, 0 failed" in printed.err
    with monkeypatch.context() as limits:
        limits.setattr("lily.certify.output_meter.DC", -1.0)
        assert main([*asked, "--overwrite"]) == 1
    printed = capsys.readouterr().err
    assert "0.wav: failed: dc, change" in printed
    assert "2 done, 0 failed, 0 skipped, 2 with a failed check" in printed
    assert main(asked) == 1  # the manifest says so of the results that are kept
    printed = capsys.readouterr().err
    assert "0 done, 0 failed, 0 skipped, 2 finished before, 2 with a failed check" in printed
    assert main([*asked, "--overwrite"]) == 0
    assert main(asked) == 0
    capsys.readouterr()
    (tapes / "bad.wav").write_text("no sound")
    assert main(asked) == 1
    assert "bad.wav" in capsys.readouterr().err
    assert (
        main(["batch", str(tapes / "nothing"), str(tmp_path / "o"), "--weights", str(model)]) == 2
    )
