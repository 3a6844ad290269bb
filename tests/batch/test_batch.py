"""Laws of a batch: nothing lost, nothing doubled, nothing touched twice, each told in one line."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_engine import band_limited, make_folder, write

import lily.batch.work as work
from lily.batch.crossings import digest_of
from lily.batch.listing import listed
from lily.batch.manifest import LocalManifest
from lily.batch.places import delivered, names_below, read_bytes
from lily.batch.plan import Plan, Request
from lily.batch.run import DiskFull, Progress, run
from lily.batch.work import ThisProcess
from lily.checkpoints.model_folder import read_folder_config
from lily.cli import main
from lily.cli.batch import standing
from lily.errors import InputError
from lily.inference.engine import InferenceEngine
from lily.inference.events import UpsampleOptions as Options

OPTIONS = Options(seed=3, steps=1, cutoff_hz=4000.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(model) -> InferenceEngine:
    return InferenceEngine(read_folder_config(model), device="cpu")


@pytest.fixture
def tapes(tmp_path) -> Path:
    """Four short recordings in a tree."""
    folder = tmp_path / "tapes"
    for n, name in enumerate(("one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "FLOAT" if name.endswith(".wav") else "PCM_24"
        write(path, band_limited(0.3 + 0.2 * n, 4000.0, seed=n), subtype=kind)
    return folder


RESULTS = {"one.wav", "a/two.wav", "a/b/three.wav", "c d/four.wav"}


def batch(engine, source, folder, told=None, **changes) -> Progress:
    changes = {"options": OPTIONS, "model": "tiny", **changes}
    tell = (lambda progress, row: None) if told is None else told
    return run(Request(str(source), str(folder), **changes), ThisProcess(engine), tell)


def rows(folder) -> dict[str, dict]:
    lines = (Path(folder) / "manifest.jsonl").read_text().splitlines()
    inputs = [json.loads(line)["input"] for line in lines]
    assert len(set(inputs)) == len(inputs), "a row per file"
    return {Path(row["input"]).name: row for row in map(json.loads, lines)}


def results(folder) -> set[str]:
    found = Path(folder).rglob("*.wav")
    return {path.relative_to(folder).as_posix() for path in found if ".lily" not in path.parts}


def stamps(folder) -> dict[str, int]:
    return {name: (Path(folder) / name).stat().st_mtime_ns for name in results(folder)}


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
        assert (
            [check["label"] for check in row["checks"]]
            == [check.label for check in alone.checks]
            != []
        )
    assert not list((tmp_path / "out/.lily/work").iterdir())


def test_run_again_nothing_is_touched_and_what_is_new_or_gone_is_done(engine, tapes, tmp_path):
    out = tmp_path / "out"
    batch(engine, tapes, out)
    before, manifest = stamps(out), (out / "manifest.jsonl").read_bytes()
    again = batch(engine, tapes, out)
    assert (again.finished_before, again.done) == (4, 0)
    assert stamps(out) == before and (out / "manifest.jsonl").read_bytes() == manifest
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
    with pytest.raises(InputError, match="results with steps 1, now it is 2"):
        batch(engine, tapes, tmp_path / "out", options=Options(seed=3, steps=2, cutoff_hz=4e3))
    drawn = Options(steps=1, cutoff_hz=4000.0, resume=True)  # which changes no sample
    assert batch(engine, tapes, tmp_path / "out", options=drawn).finished_before == 4  # its seed


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


def test_metadata_of_others_is_left_alone_too(engine, tapes, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.json").write_text("precious")
    assert batch(engine, tapes, out).skipped == 1
    assert (out / "one.json").read_text() == "precious"
    assert "one.json exists already" in rows(out)["one.wav"]["error"]
    (out / "one.json").unlink()
    (out / "a/two.wav").unlink()  # whose own metadata stays
    assert batch(engine, tapes, out).done == 2
    (out / "one.json").write_text("precious")
    assert batch(engine, tapes, out, overwrite=True).done == 4
    assert (out / "one.json").read_text() != "precious"


@pytest.mark.parametrize("store", ["", "memory:/"])
def test_metadata_whose_result_never_arrived_does_not_stay(
    engine, tapes, tmp_path, monkeypatch, store
):
    class Killed(BaseException):
        """As SIGKILL would: nobody tidies up."""

    def killed_at_a_result(file, address):
        if address.endswith(".wav"):
            raise Killed
        delivered(file, address)

    out = f"{store}{tmp_path}/out"
    with monkeypatch.context() as patched:
        patched.setattr(work.shutil, "rmtree", lambda *_, **__: None)
        patched.setattr("lily.batch.crossings.remove", lambda address: None)
        patched.setattr("lily.batch.crossings.delivered", killed_at_a_result)
        with pytest.raises(Killed):
            batch(engine, tapes, out)
    names = list(names_below(out)) if store else list(map(str, Path(out).rglob("*")))
    assert any(name.endswith(".json") for name in names if ".lily" not in name)
    assert batch(engine, tapes, out).done == 4


def test_overwriting_that_was_interrupted_begins_anew_with_other_settings(engine, tapes, tmp_path):
    class Killed(BaseException):
        """In the middle of a run."""

    def killed(progress, row):
        if row is not None:
            raise Killed

    out, more = tmp_path / "out", Options(seed=3, steps=2, cutoff_hz=4e3)
    batch(engine, tapes, out)
    with pytest.raises(Killed):
        batch(engine, tapes, out, killed, overwrite=True)
    with pytest.raises(InputError, match="or --overwrite"):
        batch(engine, tapes, out, options=more)
    assert batch(engine, tapes, out, options=more, overwrite=True).done == 4
    assert {row["steps"] for row in rows(out).values()} == {2}


def test_what_had_arrived_is_overwritten_as_well(engine, tapes, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Between a result and its row."""

    def killed(*_):
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("lily.batch.manifest.LocalManifest.append", killed)
        patched.setattr(work.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            batch(engine, tapes, out)
    more = Options(seed=3, steps=2, cutoff_hz=4e3)
    assert batch(engine, tapes, out, options=more, overwrite=True).done == 4


def test_one_name_for_two_inputs_keeps_both_and_says_so(engine, tmp_path):
    tapes, out = tmp_path / "tapes", tmp_path / "out"
    tapes.mkdir()
    for n, name in enumerate(("a.wav", "a.flac", "b.wav", "b.flac.aiff")):
        write(tapes / name, band_limited(0.3, 4e3, seed=n), subtype="PCM_24")
    batch(engine, tapes, out)
    assert results(out) == {"a.wav.wav", "a.flac.wav", "b.wav", "b.flac.wav"}
    assert "ending is kept" in rows(out)["a.flac"]["message"] and not rows(out)["b.wav"]["message"]
    write(tapes / "b.flac", band_limited(0.3, 4e3, seed=9), subtype="PCM_24")
    late = batch(engine, tapes, out)  # b.wav has its result, b.flac.wav is b.flac.aiff's
    assert late.failed == 1 and "rename it" in rows(out)["b.flac"]["error"]
    assert late.finished_before == 4


def test_one_file_that_a_list_spells_in_many_ways_is_one_input(tapes, tmp_path, monkeypatch):
    def planned(*lines) -> dict[str, str]:
        names.write_text("\n".join(lines))
        with Plan() as plan:
            plan.remember("./one.wav", "done", "one.wav")
            plan.list(listed(str(names), "out"))
            return {job.output: job.input for job, _ in plan.jobs()}

    names = tmp_path / "list.txt"
    monkeypatch.chdir(tapes)
    (tmp_path / "deep/er").mkdir(parents=True)
    (tapes / "link").symlink_to(tmp_path / "deep/er", target_is_directory=True)
    write(tmp_path / "deep/one.wav", band_limited(0.3, 4000.0))
    known = planned("one.wav", "./one.wav", f"{tapes}/one.wav", f"{tapes}//a/../one.wav", "one.wav")
    assert known == {"one.wav": "./one.wav"}
    other = planned(f"{tapes}/./a/two.flac", f"{tapes}/a/two.flac", "./one.wav")
    assert other == {"a/two.wav": f"{tapes}/./a/two.flac", "one.wav": "./one.wav"}
    linked = planned("./one.wav", "link/../one.wav")  # another file
    assert set(linked.values()) == {"./one.wav", "link/../one.wav"}


def test_bad_inputs_are_rows_and_the_others_are_done(engine, tapes, tmp_path, capsys):
    (tapes / "text.wav").write_text("not audio")
    (tapes / "empty.mp3").touch()
    (tapes / "gone.wav").symlink_to(tapes / "nowhere.wav")
    (tapes / "a/loop").symlink_to(tapes, target_is_directory=True)
    (tapes / "cover.jpg").write_text("a picture")
    progress = batch(engine, tapes, tmp_path / "out")
    assert results(tmp_path / "out") == RESULTS
    failed = {name: row for name, row in rows(tmp_path / "out").items() if row["error"]}
    assert set(failed) == {"text.wav", "empty.mp3", "gone.wav", "loop"} and progress.failed == 4
    assert "leads back" in failed["loop"]["error"] and "No such file" in failed["gone.wav"]["error"]
    (tapes / "text.wav").unlink()
    write(tapes / "text.wav", band_limited(0.3, 4e3))
    assert batch(engine, tapes, tmp_path / "out").done == 1  # what failed is tried again
    assert rows(tmp_path / "out")["text.wav"]["status"] == "done"


def test_what_cannot_be_followed_or_never_ends_is_a_row_of_its_own(tapes):
    (tapes / "self.mp3").symlink_to("self.mp3")
    (tapes / "loop").symlink_to("loop")
    os.mkfifo(tapes / "pipe.wav")
    (tapes / "zero.wav").symlink_to("/dev/zero")
    names = tapes.parent / "list.txt"
    names.write_text(f"{tapes}/pipe.wav\n{tapes}/a\n")
    wrong = {one.relative for one in listed(str(tapes), "out") if one.problem}
    assert wrong == {"self.mp3", "loop", "pipe.wav", "zero.wav"}
    assert all("no file" in one.problem for one in listed(str(names), "out"))


def test_a_folder_that_fails_halfway_keeps_what_was_listed(tapes, monkeypatch):
    class Failing:
        def __init__(self, folder):
            self.entries = scandir(folder)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.entries.close()

        def __iter__(self):
            yield from self.entries
            raise OSError(errno.EIO, "Input/output error")

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Failing)
    found = list(listed(str(tapes), "out"))
    assert {one.relative for one in found if not one.problem} == {
        "one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff"
    }  # fmt: skip
    assert {one.relative for one in found if one.problem} == {"", "a", "a/b", "c d"}


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


@pytest.mark.parametrize("moment", ["row", "result", "report", "manifest"])
def test_whatever_dies_in_between_result_and_row_appear_once(
    engine, tapes, tmp_path, monkeypatch, moment
):
    class Killed(BaseException):
        """As SIGKILL would: nobody tidies up."""

    def killed(*_, **__):
        raise Killed

    def killed_at_a_row(progress, row):
        if row is not None:
            raise Killed

    out = tmp_path / "out"
    batch(engine, tapes, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(work.shutil, "rmtree", lambda *_, **__: None)
        patched.setattr("lily.batch.run._clear", lambda landed: None)
        if moment == "row":
            patched.setattr("lily.batch.crossings.write_bytes", killed)
        elif moment == "result":
            patched.setattr("lily.batch.crossings.delivered", killed)
        elif moment == "report":
            patched.setattr("lily.batch.manifest.LocalManifest.append", killed)
        with pytest.raises(Killed):
            batch(engine, tapes, out, told=killed_at_a_row if moment == "manifest" else None)
    assert list((out / ".lily/work").iterdir())
    arrived = stamps(out)
    after = batch(engine, tapes, out)
    assert after.finished_before == len(arrived) == (1 if moment in ("report", "manifest") else 0)
    assert stamps(out).items() >= arrived.items()
    assert results(out) == RESULTS and len(rows(out)) == 4
    assert not list((out / ".lily/work").iterdir())
    for name in RESULTS:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_half_a_line_in_the_manifest_is_no_row(engine, tapes, tmp_path):
    batch(engine, tapes, tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-30])
    assert batch(engine, tapes, tmp_path / "out").skipped == 1  # whose result it is nobody knows
    assert len(rows(tmp_path / "out")) == 4


def test_a_disk_that_fills_within_a_row_leaves_whole_rows(tmp_path):
    row = {"input": "tape.wav", "output": "tape.wav", "status": "done"}
    with LocalManifest(tmp_path) as manifest:
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
    with LocalManifest(tmp_path) as manifest:
        assert list(manifest.rows()) == [row]


def test_a_manifest_that_was_replaced_before_it_was_locked_is_not_written(tmp_path, monkeypatch):
    def late(file, how):
        os.replace(other, tmp_path / "manifest.jsonl")

    other = tmp_path / "compacted"
    other.touch()
    monkeypatch.setattr("lily.batch.manifest.fcntl.flock", late)
    with pytest.raises(InputError, match="Another run"):
        LocalManifest(tmp_path)


def test_two_runs_at_once_do_not_share_a_manifest(engine, tapes, tmp_path):
    def second(progress, row):
        with pytest.raises(InputError, match="Another run"):
            batch(engine, tapes, tmp_path / "out")

    assert batch(engine, tapes, tmp_path / "out", told=second).done == 4


def test_patterns_lists_and_one_file_find_what_a_folder_does(tapes, tmp_path, monkeypatch):
    def found(source) -> dict[str, str]:
        return {Path(one.address).name: one.relative for one in listed(str(source), "out")}

    folder = found(tapes)
    assert set(folder.values()) == {"one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff"}
    assert found(f"{tapes}/**/*.[wfa]*") == folder
    assert found(tapes / "one.wav") == {"one.wav": "one.wav"}
    monkeypatch.chdir(tapes)
    names = tmp_path / "list.txt"
    names.write_text(f"a/two.flac\n\n{tapes}/a/b/three.wav\nc d/four.aiff\r\none.wav\n")
    assert found(names) == folder
    with pytest.raises(InputError, match="no folder, file, pattern or list"):
        found("missing")


def test_results_inside_of_what_is_read_are_not_read(engine, tapes, tmp_path):
    assert batch(engine, tapes, tapes / "restored").done == 4
    assert batch(engine, tapes, tapes / "restored").files == 4
    with pytest.raises(InputError, match="is what is read"):
        batch(engine, tapes, tapes)


def test_neither_a_pattern_nor_a_linked_folder_reads_results(tapes, tmp_path):
    def found(source, output) -> set[str]:
        return {one.relative for one in listed(str(source), str(output))}

    recordings = found(tapes, tmp_path / "out")
    (tapes / "a/out").mkdir()
    write(tapes / "a/out/one.wav", band_limited(0.3, 4000.0))
    (tmp_path / "link").symlink_to(tapes, target_is_directory=True)
    (tmp_path / "way").symlink_to(tapes / "a", target_is_directory=True)
    for output in (tapes / "a/out", tmp_path / "way/out"):
        for source in (tapes, tmp_path / "link"):
            assert found(source, output) == recordings
            assert found(f"{source}/**/*.[wfa]*", output) == recordings
    assert found(f"{tapes}/a/out/*.wav", tapes / "a") == {"one.wav"}  # which is asked for
    with pytest.raises(InputError, match="is what is read"):
        found(f"{tapes}/*.wav", tmp_path / "link")


def test_any_fsspec_address_serves_for_input_and_output(engine, tapes):
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(f"{tapes}/", "/bucket/in", recursive=True)
    progress = batch(engine, "memory://bucket/in", "memory://bucket/out")
    assert progress.done == 4
    names = {path[len("/bucket/out/") :] for path in store.find("/bucket/out")}
    manifests = {name for name in names if name.startswith("manifest/")}
    metadata = {name.replace(".wav", ".json") for name in RESULTS}
    assert names - manifests == RESULTS | metadata | {".lily/run.json"}
    assert len(manifests) == 1
    before = {name: store.info(f"/bucket/out/{name}")["created"] for name in RESULTS}
    again = batch(engine, "memory://bucket/in", "memory://bucket/out")
    assert (again.finished_before, again.done) == (4, 0)
    assert {name: store.info(f"/bucket/out/{name}")["created"] for name in RESULTS} == before
    row = json.loads(read_bytes(f"memory://bucket/out/{manifests.pop()}").splitlines()[0])
    local = tapes / Path(row["input"]).relative_to("memory:/bucket/in")
    assert row["bytes"] == local.stat().st_size
    store.rm("/bucket", recursive=True)


def test_a_store_that_cannot_list_a_folder_says_so(tapes, monkeypatch):
    import fsspec

    def found(source) -> dict[str, str]:
        output = "memory://f/in/out"
        return {one.relative: one.problem for one in listed(f"memory://f/in{source}", output)}

    def refusing(self, path, **kwargs):
        if path.endswith("/a/b"):
            raise PermissionError(errno.EACCES, "Forbidden")
        return ls(self, path, **kwargs)

    store = fsspec.filesystem("memory")
    ls = type(store).ls
    store.put(f"{tapes}/", "/f/in", recursive=True)
    store.pipe_file("/f/in/out/one.wav", b"a result")
    whole = found("")
    assert set(whole) == {"one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff"}
    assert found("/**/*.[wfa]*") == whole and set(found("/*/*.flac")) == {"a/two.flac"}
    assert set(found("/a/**")) == {"two.flac", "b/three.wav"} and set(found("/*.wav")) == {
        "one.wav"
    }
    assert found("/none/*.wav") == {}
    with pytest.raises(InputError, match="is what is read"):
        list(listed("memory://f/in", "memory://f/in"))
    monkeypatch.setattr(type(store), "ls", refusing)
    for source in ("", "/**/*.[wfa]*"):
        assert {name for name, problem in found(source).items() if problem} == {"a/b"}
    assert not any(found("/*/*.flac").values())
    with pytest.raises(InputError, match="a/b cannot be listed"):
        list(names_below("memory://f/in"))
    monkeypatch.undo()
    store.rm("/f", recursive=True)


def test_a_result_that_reached_a_store_before_its_row_is_taken_as_it_is(engine, tapes):
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(f"{tapes}/", "/b/in", recursive=True)
    batch(engine, "memory://b/in", "memory://b/out")
    store.rm("/b/out/manifest", recursive=True)
    found = {one.relative: one.address for one in listed("memory://b/in", "memory://b/out")}
    row = {"input": found["one.wav"], "output": "one.wav", "status": "done", "error": ""}
    name = f"{digest_of(row['input'])}-0.json"
    store.pipe_file(f"/b/out/.lily/work/{name}", json.dumps(row).encode())
    again = batch(engine, "memory://b/in", "memory://b/out")
    assert (again.finished_before, again.skipped) == (1, 3)
    assert not store.find("/b/out/.lily/work")
    store.rm("/b", recursive=True)


def test_names_that_are_no_text_pass_through_the_manifest(engine, tapes, tmp_path):
    odd = os.fsencode(str(tapes)) + b"/\xff\xfe.wav"
    os.rename(tapes / "one.wav", odd)
    assert batch(engine, tapes, tmp_path / "out").done == 4
    assert os.path.exists(os.fsencode(str(tmp_path / "out")) + b"/\xff\xfe.wav")
    assert batch(engine, tapes, tmp_path / "out").finished_before == 4


def test_the_plan_holds_no_names_in_memory(tmp_path):
    from lily.batch.listing import Found

    with Plan() as plan:
        plan.list(Found(f"/tapes/{n}.mp3", f"{n}.mp3", n) for n in range(3000))
        assert plan.totals() == (3000, 3000 * 2999 // 2)
        jobs = plan.jobs(largest_first=True)
        assert next(jobs)[0].output == "2999.wav"
        assert Counter(type(value).__name__ for value in vars(plan).values()) == {"Connection": 1}


def test_progress_tells_hours_factor_and_time_left():
    progress = Progress(files=10, size=1000, finished_seconds=7200.0, work_size=250)
    progress.settled_size, progress.began = 500, progress.began - 720
    text = standing(progress)
    assert text.startswith("2.00 h of audio, real-time factor 0.10, 0:24:")


def test_the_command_line_exits_with_1_if_a_recording_failed(model, tapes, tmp_path, capsys):
    asked = ["batch", str(tapes), str(tmp_path / "out"), "--weights", str(model), "--steps", "1"]
    torch.set_num_threads(1)
    assert main([*asked, "--json"]) == 0
    printed = capsys.readouterr()
    assert {json.loads(line)["status"] for line in printed.out.splitlines()} == {"done"}
    assert "4 done, 0 failed" in printed.err
    (tapes / "bad.wav").write_text("no sound")
    assert main(asked) == 1
    assert "bad.wav" in capsys.readouterr().err
    assert (
        main(["batch", str(tapes / "nothing"), str(tmp_path / "o"), "--weights", str(model)]) == 2
    )
