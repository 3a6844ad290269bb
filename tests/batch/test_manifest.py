"""The manifest holds whole rows, one for each input."""

from __future__ import annotations

import resource
import signal

import pytest
from batches import batch, rows

from lily.batch.manifest import Manifest
from lily.errors import InputError


def test_half_a_line_in_the_manifest_is_no_row(engine, tapes, tmp_path):
    batch(engine, tapes, tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-30])
    assert batch(engine, tapes, tmp_path / "out").skipped == 1  # whose result it is nobody knows
    assert len(rows(tmp_path / "out")) == 4


def test_a_disk_that_fills_within_a_row_leaves_whole_rows(tmp_path):
    row = {"input": "tape.wav", "output": "tape.wav", "status": "done"}
    with Manifest(str(tmp_path)) as manifest:
        manifest.append(row)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (manifest.path.stat().st_size + 20, limits[1]))
        try:
            for n in range(2):
                with pytest.raises(OSError):
                    manifest.append({**row, "input": f"{n}.wav"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
    with Manifest(str(tmp_path)) as manifest:
        assert list(manifest.rows()) == [row]


def test_two_runs_at_once_do_not_share_a_manifest(engine, tapes, tmp_path):
    def second(progress, row):
        with pytest.raises(InputError, match="Another run"):
            batch(engine, tapes, tmp_path / "out")

    assert batch(engine, tapes, tmp_path / "out", second).done == 4
