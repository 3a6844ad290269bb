"""Laws of a batch: nothing lost, nothing done twice, nothing overwritten, a row for every input."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from batches import OPTIONS, RESULTS, Killed, batch, killed, results, rows, stamps
from test_engine import band_limited, write

import lily.batch.work as work
from lily.batch.plan import Request
from lily.batch.run import DiskFull, run
from lily.certify.paths import metadata_path
from lily.errors import InputError


def test_a_tree_is_mirrored_with_the_samples_of_upsample_and_a_row_per_file(
    engine, tapes, tmp_path
):
    progress = batch(engine, tapes, tmp_path / "out")
    assert results(tmp_path / "out") == RESULTS
    assert (progress.files, progress.done, progress.settled) == (4, 4, 4)
    for row in rows(tmp_path / "out").values():
        assert row["status"] == "done" and row["error"] == "" and len(row["sha256"]) == 64
        assert row["cutoff_hz"] == 4000.0 and row["seed"] == 3 and row["figures"]["peak"] > 0
        alone = engine.run_inference(
            row["input"], tmp_path / "alone", seed=3, steps=1, cutoff_hz=4e3
        )
        assert alone.output.read_bytes() == (tmp_path / "out" / row["output"]).read_bytes()
        metadata = tmp_path / "out" / row["metadata"]
        assert metadata.read_bytes() == alone.metadata.read_bytes()
        labels = [check.label for check in alone.checks]
        assert [check["label"] for check in row["checks"]] == labels != []
    assert not (tmp_path / "out/.lily/work").exists()


def test_run_again_nothing_is_touched_and_what_is_new_or_gone_is_done(engine, tapes, tmp_path):
    out = tmp_path / "out"
    batch(engine, tapes, out)
    before, manifest = stamps(out), (out / "manifest.jsonl").read_bytes()
    again = batch(engine, tapes, out)
    assert (again.finished_before, again.done) == (4, 0)
    assert stamps(out) == before and (out / "manifest.jsonl").read_bytes() == manifest
    request = Request(str(tapes), str(out), OPTIONS, "tiny")
    assert run(request, killed, lambda progress, row: None).finished_before == 4  # no model
    (out / "one.wav").unlink()
    write(tapes / "new.wav", band_limited(0.3, 4000.0))
    third = batch(engine, tapes, out)
    assert (third.finished_before, third.done) == (3, 2)
    assert {name: stamps(out)[name] for name in before if name != "one.wav"} == {
        name: stamp for name, stamp in before.items() if name != "one.wav"
    }
    assert len(rows(out)) == 5


def test_what_an_earlier_run_was_asked_for_cannot_be_mixed_with_another(engine, tapes, tmp_path):
    batch(engine, tapes, tmp_path / "out")
    with pytest.raises(InputError, match="results with steps 1, not 2"):
        batch(engine, tapes, tmp_path / "out", options=replace(OPTIONS, steps=2))
    drawn = replace(OPTIONS, seed=None, resume=True)  # which changes no sample
    assert batch(engine, tapes, tmp_path / "out", options=drawn).finished_before == 4  # its seed


@pytest.mark.parametrize("stored", [b"{", b"[]", b"{}", b'{"settings": 3}', b"[" * 99_999, b"\xff"])
def test_settings_of_something_else_are_refused_and_kept(engine, tapes, tmp_path, stored):
    place = tmp_path / "out/.lily/run.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(stored)
    with pytest.raises(InputError, match="does not hold the settings of a batch"):
        batch(engine, tapes, tmp_path / "out")
    assert place.read_bytes() == stored and not list((tmp_path / "out").glob("**/*.wav"))


def test_the_context_files_of_a_batch_are_among_its_settings(engine, tapes, tmp_path):
    mine, other = (
        replace(OPTIONS, context_files=(tapes / name,)) for name in ("one.wav", "a/two.flac")
    )
    assert batch(engine, tapes, tmp_path / "out", options=mine).failed == 4  # no such encoder
    assert "reads no profile" in rows(tmp_path / "out")["one.wav"]["error"]
    assert batch(engine, tapes, tmp_path / "out", options=mine).failed == 4
    with pytest.raises(InputError, match="holds results with context_files"):
        batch(engine, tapes, tmp_path / "out", options=other)


def test_files_of_others_are_left_alone_unless_overwriting_is_asked_for(engine, tapes, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.wav").write_text("precious")
    assert batch(engine, tapes, out).skipped == 1
    assert (out / "one.wav").read_text() == "precious"
    assert rows(out)["one.wav"]["status"] == "skipped"
    again = batch(engine, tapes, out)
    assert (again.skipped, again.finished_before) == (1, 3) and len(rows(out)) == 4
    assert batch(engine, tapes, out, overwrite=True).done == 4
    assert (out / "one.wav").stat().st_size > 1000
    assert {row["status"] for row in rows(out).values()} == {"done"}


@pytest.mark.slow
def test_overwriting_that_was_interrupted_begins_anew_with_other_settings(engine, tapes, tmp_path):
    def killed(progress, row):
        if row is not None:
            raise Killed

    out, more = tmp_path / "out", replace(OPTIONS, steps=2)
    batch(engine, tapes, out)
    with pytest.raises(Killed):
        batch(engine, tapes, out, killed, overwrite=True)
    with pytest.raises(InputError, match="or --overwrite"):
        batch(engine, tapes, out, options=more)
    assert batch(engine, tapes, out, options=more, overwrite=True).done == 4
    assert {row["steps"] for row in rows(out).values()} == {2}


def test_bad_inputs_are_rows_and_the_others_are_done(engine, tapes, tmp_path, capsys):
    (tapes / "text.wav").write_text("not audio")
    (tapes / "empty.mp3").touch()
    (tapes / "gone.wav").symlink_to(tapes / "nowhere.wav")
    (tapes / "a/loop").symlink_to(tapes, target_is_directory=True)
    (tapes / "cover.jpg").write_text("a picture")
    (tapes / "a/._two.flac").write_text("what macOS leaves")
    (tapes / ".trash").mkdir()
    progress = batch(engine, tapes, tmp_path / "out")
    assert results(tmp_path / "out") == RESULTS
    failed = {n: row for n, row in rows(tmp_path / "out").items() if row["status"] == "failed"}
    assert set(failed) == {"text.wav", "empty.mp3", "gone.wav", "loop"} and progress.failed == 4
    assert "leads back" in failed["loop"]["error"] and "No such file" in failed["gone.wav"]["error"]
    left_out = {n: row for n, row in rows(tmp_path / "out").items() if row["status"] == "skipped"}
    assert set(left_out) == {"cover.jpg", "._two.flac", ".trash"} and progress.skipped == 3
    assert "Not audio" in left_out["cover.jpg"]["error"]
    assert "Hidden" in left_out["._two.flac"]["error"]
    (tapes / "text.wav").unlink()
    write(tapes / "text.wav", band_limited(0.3, 4e3))
    assert batch(engine, tapes, tmp_path / "out").done == 1  # what failed is tried again
    assert rows(tmp_path / "out")["text.wav"]["status"] == "done"
    before = (tmp_path / "out/manifest.jsonl").read_bytes()
    assert batch(engine, tapes, tmp_path / "out").skipped == 3
    assert sorted((tmp_path / "out/manifest.jsonl").read_bytes()) == sorted(before)


def test_no_permission_is_told_of_the_file_it_concerns(engine, tapes, tmp_path, monkeypatch):
    opened = work.sha256

    def refused(path):
        if path.name == "one.wav":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(work, "sha256", refused)  # root may read everything
    assert batch(engine, tapes, tmp_path / "out").failed == 1
    assert "Permission denied" in rows(tmp_path / "out")["one.wav"]["error"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        batch(engine, tapes, tmp_path / "file" / "out")


def test_a_file_that_changes_while_it_is_read_is_no_result(engine, tapes, tmp_path, monkeypatch):
    digest = work.sha256

    def changing(path):
        found = digest(path)
        if path.name == "one.wav":
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(work, "sha256", changing)
    assert batch(engine, tapes, tmp_path / "out").failed == 1
    assert "changed while" in rows(tmp_path / "out")["one.wav"]["error"]
    assert results(tmp_path / "out") == RESULTS - {"one.wav"}


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(engine, tapes, tmp_path, monkeypatch):
    def full(self, block):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("lily.inference.output.AudioWriter.write", full)
        with pytest.raises(DiskFull, match="run the same command again"):
            batch(engine, tapes, tmp_path / "out")
    assert not results(tmp_path / "out") and not list((tmp_path / "out/.lily/work").iterdir())
    assert batch(engine, tapes, tmp_path / "out").done == 4
    assert {row["status"] for row in rows(tmp_path / "out").values()} == {"done"}


def test_results_inside_of_what_is_read_are_not_read(engine, tapes, tmp_path):
    assert batch(engine, tapes, tapes / "restored").done == 4
    assert batch(engine, tapes, tapes / "restored").files == 4
    with pytest.raises(InputError, match="the folder that is read"):
        batch(engine, tapes, tapes)


def test_any_fsspec_address_serves_for_input_and_output(engine, tapes):
    store = fsspec.filesystem("memory")
    store.put(f"{tapes}/", "/bucket/in", recursive=True)
    progress = batch(engine, "memory://bucket/in", "memory://bucket/out")
    assert progress.done == 4
    names = {path[len("/bucket/out/") :] for path in store.find("/bucket/out")}
    metadata = {metadata_path(Path(name)).as_posix() for name in RESULTS}
    assert names == RESULTS | metadata | {".lily/run.json", "manifest.jsonl"}
    before = {name: store.info(f"/bucket/out/{name}")["created"] for name in RESULTS}
    again = batch(engine, "memory://bucket/in", "memory://bucket/out")
    assert (again.finished_before, again.done) == (4, 0)
    assert {name: store.info(f"/bucket/out/{name}")["created"] for name in RESULTS} == before
    row = json.loads(store.cat("/bucket/out/manifest.jsonl").splitlines()[0])
    local = tapes / Path(row["input"]).relative_to("memory:/bucket/in")
    assert row["bytes"] == local.stat().st_size
    store.rm("/bucket", recursive=True)


def test_names_that_are_no_text_pass_through_the_manifest(engine, tapes, tmp_path):
    odd = os.fsencode(str(tapes)) + b"/\xff\xfe.wav"
    os.rename(tapes / "one.wav", odd)
    assert batch(engine, tapes, tmp_path / "out").done == 4
    assert os.path.exists(os.fsencode(str(tmp_path / "out")) + b"/\xff\xfe.wav")
    assert batch(engine, tapes, tmp_path / "out").finished_before == 4


def test_a_name_up_to_the_limit_is_restored_and_a_longer_one_refused_first(
    engine, tapes, tmp_path, monkeypatch
):
    longest, too_long = "ä" * 125, "x" * 251  # with .json 255 and 256 bytes
    (tapes / "one.wav").rename(tapes / f"{longest}.wav")
    (tapes / "a/b/three.wav").rename(tapes / f"{too_long}.wav")
    hashed, digest = [], work.sha256
    monkeypatch.setattr(work, "sha256", lambda path: hashed.append(path.stem) or digest(path))
    progress = batch(engine, tapes, tmp_path / "out")
    assert (progress.done, progress.failed) == (3, 1)
    assert results(tmp_path / "out") == {f"{longest}.wav", "a/two.wav", "c d/four.wav"}
    assert "too long" in rows(tmp_path / "out")[f"{too_long}.wav"]["error"]
    assert longest in hashed and too_long not in hashed
