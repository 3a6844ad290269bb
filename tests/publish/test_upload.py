"""A Space gets the files that git tracks and nothing else that lies in the clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lily.errors import PublishError
from lily.publish import upload

FILES = {
    "app.py": "",
    "lily/engine.py": "",
    "lily/assets/model.safetensors": "",
    "configs/lily-mini.yaml": "",
    "requirements.txt": "torch==2.11.0\ngradio==6.31.0\npytest>=8\n",
    "README.md": "---\ntitle: Lily\nsdk: gradio\n---\n\n# Lily\n",
    "LICENSE": "",
    "docs/images/page.png": "",
    "tests/test_lily.py": "",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    write(tmp_path, FILES)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(upload, "ROOT", tmp_path)
    return tmp_path


def test_untracked_files_stay_here(clone):
    write(clone, {"configs/client-secret.yaml": "token: hf_x", "lily/.env": "HF_TOKEN=hf_x"})
    files = upload.space_files("owner/name", "owner/space")
    assert set(files) == FILES.keys() - {"tests/test_lily.py"}
    assert files["app.py"] == clone / "app.py"
    assert files["requirements.txt"] == b"torch==2.11.0\n"
    assert b"- owner/name" in files["README.md"]
    thumbnail = b"https://huggingface.co/spaces/owner/space/resolve/main/docs/images/page.png"
    assert b"thumbnail: " + thumbnail in files["README.md"]


def test_a_tracked_file_that_is_gone_is_named(clone):
    (clone / "lily/engine.py").unlink()
    with pytest.raises(PublishError, match="no lily/engine.py among them"):
        upload.space_files("owner/name", "owner/space")


def test_a_folder_that_git_does_not_track_is_refused(clone, tmp_path, monkeypatch):
    inside = clone / "copy"
    write(inside, FILES)
    monkeypatch.setattr(upload, "ROOT", inside)  # in another repository, which does not track it
    with pytest.raises(PublishError, match="no app.py among them"):
        upload.space_files("owner/name", "owner/space")


def test_a_folder_without_git_is_refused(tmp_path, monkeypatch):
    write(tmp_path, FILES)
    monkeypatch.setattr(upload, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(PublishError, match="no git clone"):
        upload.space_files("owner/name", "owner/space")
