"""Laws of the notes kept about models of the Hub: they help, and their loss stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lily.checkpoints import hub
from lily.config.model_id import HubId

MODEL, FIRST, SECOND = HubId("owner/name"), "a" * 40, "b" * 40


@pytest.fixture
def note(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(hub, "assets", lambda _model: tmp_path)
    return tmp_path / "preset.commit"


def notices(commit: str) -> list[str]:
    seen: list = []
    hub.record_commit("preset", MODEL, commit, seen.append)
    return [notice.text for notice in seen]


def test_the_first_commit_is_recorded_and_another_one_reported(note):
    assert notices(FIRST) == [] and note.read_text().strip() == FIRST
    assert notices(FIRST) == []
    (text,) = notices(SECOND)
    assert FIRST[:12] in text and SECOND[:12] in text


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_note_that_was_never_finished_is_written_again(note, content):
    note.write_text(content)
    assert notices(FIRST) == [] and note.read_text().strip() == FIRST


def test_a_cache_that_cannot_be_written_stops_no_run(note, monkeypatch, caplog):
    def read_only(*_arguments, **_more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    assert notices(FIRST) == [] and "not recorded" in caplog.text


def test_a_note_that_is_no_text_stops_no_run(note, caplog):
    note.write_bytes(b"\xff\xfe")
    assert notices(FIRST) == [] and "not recorded" in caplog.text
