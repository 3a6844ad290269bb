"""A result and its row appear together, whatever dies in between."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from batches import OPTIONS, RESULTS, Killed, batch, killed, results, rows, stamps

from lily.batch.commit import digest_of
from lily.batch.listing import find_inputs
from lily.batch.storage import files_below, place
from lily.certify.paths import metadata_path


@pytest.mark.slow
def test_certificates_of_others_are_left_alone(engine, tapes, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    metadata = metadata_path(out / "one.wav")
    metadata.write_text("precious")
    assert batch(engine, tapes, out).skipped == 1
    assert metadata.read_text() == "precious"
    assert f"{metadata.name} exists already" in rows(out)["one.wav"]["error"]
    metadata.unlink()
    (out / "a/two.wav").unlink()  # whose own metadata stays
    assert batch(engine, tapes, out).done == 2
    metadata.write_text("precious")
    assert batch(engine, tapes, out, overwrite=True).done == 4
    assert metadata.read_text() != "precious"


def test_a_damaged_row_file_is_no_row_and_stops_no_batch(engine, tapes, tmp_path):
    work = tmp_path / "out/.lily/work"
    work.mkdir(parents=True)
    for name, content in (("a", b"{"), ("b", b"[1]"), ("c", b""), ("d", b'{"output": "x"}')):
        (work / f"{name}.json").write_bytes(content)
    assert batch(engine, tapes, tmp_path / "out").done == 4
    assert len(rows(tmp_path / "out")) == 4 and not list(work.glob("*.json"))


def leave_everything(patched) -> None:
    """Nothing is tidied up any more, as after a SIGKILL."""
    patched.setattr(shutil, "rmtree", lambda *_, **__: None)
    patched.setattr("lily.batch.commit.remove", lambda address: None)
    patched.setattr("lily.batch.run.remove", lambda address: None)


@pytest.mark.parametrize("store", ["", "memory:/"])
def test_a_certificate_whose_result_never_arrived_is_removed(
    engine, tapes, tmp_path, monkeypatch, store
):
    def killed_at_a_result(file, address):
        if address.endswith(".wav"):
            raise Killed
        place(file, address)

    out = f"{store}{tmp_path}/out"
    with monkeypatch.context() as patched:
        leave_everything(patched)
        patched.setattr("lily.batch.commit.place", killed_at_a_result)
        with pytest.raises(Killed):
            batch(engine, tapes, out)
    suffix = metadata_path(Path("one.wav")).name.removeprefix("one")
    assert any(n.endswith(suffix) for n, _ in files_below(out) if not n.startswith(".lily"))
    assert batch(engine, tapes, out).done == 4


def test_a_result_without_its_row_is_overwritten_too(engine, tapes, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        leave_everything(patched)
        patched.setattr("lily.batch.manifest.Manifest.append", killed)
        with pytest.raises(Killed):
            batch(engine, tapes, out)
    more = replace(OPTIONS, steps=2)
    assert batch(engine, tapes, out, options=more, overwrite=True).done == 4


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["row", "result", "report", "manifest"])
def test_killed_at_any_moment_result_and_row_appear_once(
    engine, tapes, tmp_path, monkeypatch, moment
):
    def killed_at_a_row(progress, row):
        if row is not None:
            raise Killed

    out = tmp_path / "out"
    batch(engine, tapes, tmp_path / "whole")
    with monkeypatch.context() as patched:
        leave_everything(patched)
        if moment == "row":
            patched.setattr("lily.batch.commit.write_bytes", killed)
        elif moment == "result":
            patched.setattr("lily.batch.commit.place", killed)
        elif moment == "report":
            patched.setattr("lily.batch.manifest.Manifest.append", killed)
        with pytest.raises(Killed):
            batch(engine, tapes, out, killed_at_a_row if moment == "manifest" else None)
    assert list((out / ".lily/work").iterdir())
    arrived = stamps(out)
    after = batch(engine, tapes, out)
    assert after.finished_before == len(arrived) == (1 if moment in ("report", "manifest") else 0)
    assert stamps(out).items() >= arrived.items()
    assert results(out) == RESULTS and len(rows(out)) == 4
    assert not (out / ".lily/work").exists()
    for name in RESULTS:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("renames", [True, False])
def test_a_result_without_hard_links_arrives_whole_or_not_at_all(tmp_path, monkeypatch, renames):
    def refused(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "replace", os.replace if renames else refused)
    made, result = tmp_path / "made.wav", tmp_path / "out/result.wav"
    made.write_text("sound")
    with nullcontext() if renames else pytest.raises(OSError, match="cross-device"):
        place(made, str(result))
    assert result.exists() == renames and made.exists() != renames
    made.write_text("another")
    result.write_text("sound")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        place(made, str(result))
    assert result.read_text() == "sound"


def test_a_result_that_reached_a_store_before_its_row_is_kept(engine, tapes):
    store = fsspec.filesystem("memory")
    store.put(f"{tapes}/", "/b/in", recursive=True)
    batch(engine, "memory://b/in", "memory://b/out")
    store.rm("/b/out/manifest.jsonl")
    found = {one.relative: one.address for one in find_inputs("memory://b/in", "memory://b/out")}
    row = {"input": found["one.wav"], "output": "one.wav", "status": "done", "error": ""}
    row |= {"files": ["one.wav"], "output_bytes": store.size("/b/out/one.wav")}
    name = f"{digest_of(row['input'])}-0.json"
    store.pipe_file(f"/b/out/.lily/work/{name}", json.dumps(row).encode())
    again = batch(engine, "memory://b/in", "memory://b/out")
    assert (again.finished_before, again.skipped) == (1, 3)
    assert not store.exists("/b/out/.lily/work")
    store.rm("/b", recursive=True)
