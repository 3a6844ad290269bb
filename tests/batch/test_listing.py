"""Which files a folder, a pattern, a list or a URL names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import fsspec
import pytest
from test_engine import band_limited, write

from lily.batch.listing import find_inputs
from lily.batch.storage import files_below
from lily.errors import InputError


def test_what_cannot_be_followed_or_never_ends_is_a_row_of_its_own(tapes):
    (tapes / "self.mp3").symlink_to("self.mp3")
    (tapes / "loop").symlink_to("loop")
    os.mkfifo(tapes / "pipe.wav")
    (tapes / "zero.wav").symlink_to("/dev/zero")
    names = tapes.parent / "list.txt"
    names.write_text(f"{tapes}/pipe.wav\n{tapes}/a\n")
    wrong = {one.relative for one in find_inputs(str(tapes), "out") if one.problem}
    assert wrong == {"self.mp3", "loop", "pipe.wav", "zero.wav"}
    assert all("not a file" in one.problem for one in find_inputs(str(names), "out"))


def test_a_folder_that_fails_halfway_keeps_what_was_find_inputs(tapes, monkeypatch):
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
    found = list(find_inputs(str(tapes), "out"))
    assert {one.relative for one in found if not one.problem} == {
        "one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff"
    }  # fmt: skip
    assert {one.relative for one in found if one.problem} == {"", "a", "a/b", "c d"}


def test_patterns_lists_and_one_file_find_what_a_folder_does(tapes, tmp_path, monkeypatch):
    def found(source) -> dict[str, str]:
        return {Path(one.address).name: one.relative for one in find_inputs(str(source), "out")}

    folder = found(tapes)
    assert set(folder.values()) == {"one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff"}
    assert found(f"{tapes}/**/*.[wfa]*") == folder
    assert found(tapes / "one.wav") == {"one.wav": "one.wav"}
    monkeypatch.chdir(tapes)
    names = tmp_path / "list.txt"
    names.write_text(f"a/two.flac\n\n{tapes}/a/b/three.wav\nc d/four.aiff\r\none.wav\n")
    assert found(names) == folder
    with pytest.raises(InputError, match="not a folder, file, pattern or list"):
        found("missing")


def test_neither_a_pattern_nor_a_linked_folder_reads_results(tapes, tmp_path):
    def found(source, output) -> set[str]:
        return {one.relative for one in find_inputs(str(source), str(output)) if not one.left_out}

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
    with pytest.raises(InputError, match="the folder that is read"):
        found(f"{tapes}/*.wav", tmp_path / "link")


def test_a_store_that_cannot_list_a_folder_says_so(tapes, monkeypatch):
    def found(source) -> dict[str, str]:
        output = "memory://f/in/out"
        return {one.relative: one.problem for one in find_inputs(f"memory://f/in{source}", output)}

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
    with pytest.raises(InputError, match="the folder that is read"):
        list(find_inputs("memory://f/in", "memory://f/in"))
    monkeypatch.setattr(type(store), "ls", refusing)
    for source in ("", "/**/*.[wfa]*"):
        assert {name for name, problem in found(source).items() if problem} == {"a/b"}
    assert not any(found("/*/*.flac").values())
    with pytest.raises(InputError, match="a/b cannot be listed"):
        list(files_below("memory://f/in"))
    monkeypatch.undo()
    store.rm("/f", recursive=True)


def test_brackets_in_the_name_of_a_folder_or_file_are_no_pattern(tapes):
    def found(pattern) -> dict[str, str]:
        return {one.relative: one.address for one in find_inputs(f"{tapes}/{pattern}", "out")}

    for name in ("My [Live] tapes/1.wav", "My [Live] tapes/[2].wav", "x/My [Live] tapes/1.wav"):
        (tapes / name).parent.mkdir(parents=True, exist_ok=True)
        write(tapes / name, band_limited(0.3, 4000.0))
    assert set(found("My [Live] tapes/*.wav")) == {"1.wav", "[2].wav"}
    assert set(found("*/My [Live] tapes/*.wav")) == {"x/My [Live] tapes/1.wav"}
    assert set(found("My [Live] tapes/[2].wav")) == {"[2].wav"}
    assert set(found("My [KL]ive tapes/*.wav")) == set()  # no folder of that name: a pattern
    (tapes / "My Live tapes").mkdir()
    write(tapes / "My Live tapes/3.wav", band_limited(0.3, 4000.0))
    assert set(found("My [KL]ive tapes/*.wav")) == {"My Live tapes/3.wav"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_as_any_editor_saves_them(tapes, tmp_path, monkeypatch, encoding, end):
    monkeypatch.chdir(tapes)
    for name in ("é ü.wav", "#1.wav", '"quoted".wav', "ends with a blank.wav "):
        (tapes / name).touch()
    lines = [
        *("# my tapes", "", "one.wav  ", '"a/two.flac"', "  'a/b/three.wav'\t", "c d/four.aiff"),
        *("é ü.wav", "#1.wav", "#2.wav is lost", '"quoted".wav', "ends with a blank.wav "),
        "gone.wav",
    ]  # fmt: skip
    text = end.join(lines)
    names = tmp_path / "list.txt"
    big_endian = encoding == "utf-16-be-bom"
    content = ("\ufeff" + text).encode("utf-16-be") if big_endian else text.encode(encoding)
    names.write_bytes(content)
    found = {one.relative: one.problem for one in find_inputs(str(names), "out")}
    assert "No such file" in found.pop("gone.wav") and not any(found.values())
    assert set(found) == {
        *("one.wav", "a/two.flac", "a/b/three.wav", "c d/four.aiff", "é ü.wav", "#1.wav"),
        *('"quoted".wav', "ends with a blank.wav "),
    }


def test_a_list_of_names_that_are_not_utf_8_names_them_byte_by_byte(tapes, tmp_path):
    odd = os.fsencode(tapes) + b"/\xff\xfe \x85.wav"
    os.rename(tapes / "one.wav", odd)
    names = tmp_path / "list.txt"
    names.write_bytes(odd + b"\n")
    (one,) = find_inputs(str(names), "out")
    assert os.fsencode(one.address) == odd and not one.problem


@pytest.mark.parametrize("store", [False, True])
def test_files_are_recordings_by_their_content_whatever_their_ending(tapes, store):
    (tapes / "one.wav").rename(tapes / "one.bak")
    (tapes / "a/two.flac").rename(tapes / "a/no ending")
    (tapes / "notes.txt").write_text("side A: " * 100)
    (tapes / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(500))
    (tapes / "broken.wav").write_text("no audio")
    source = str(tapes)
    if store:
        fsspec.filesystem("memory").put(f"{tapes}/", "/content/in", recursive=True)
        source = "memory://content/in"
    found = {one.relative: one.left_out for one in find_inputs(source, "out")}
    left_out = {name for name, reason in found.items() if reason}
    assert left_out == {"notes.txt", "cover.jpg"}
    assert all("Not audio" in found[name] for name in left_out)
    assert {"one.bak", "a/no ending", "broken.wav"} <= found.keys()  # broken.wav fails, with a row
    if store:
        fsspec.filesystem("memory").rm("/content", recursive=True)
