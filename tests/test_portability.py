"""Lily without POSIX-only modules, as on Windows: imports, peak memory, naming new files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lily.audio import temp_files
from lily.errors import InputError
from lily.evaluation.machine import peak_memory

ROOT = Path(__file__).resolve().parent.parent
POSIX_ONLY = {
    "fcntl",
    "resource",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "posix",
    "syslog",
    "crypt",
}
# Only Lily's own imports are refused: the libraries' POSIX builds may use what they like.
IMPORT_ALL = """
import builtins, importlib, json, sys
posix_only, modules = json.load(sys.stdin)
inner = builtins.__import__

def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name.split(".")[0] in posix_only and importer.split(".")[0] in ("lily", "app"):
        raise ImportError(f"No module named {name!r}, imported by {importer}")
    return inner(name, globals, locals, fromlist, level)

builtins.__import__ = refusing
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        if "imported by" in str(error):
            failed[module] = str(error)
from lily.audio import temp_files
print(json.dumps([failed, temp_files.fcntl is None, len(modules)]))
"""


@pytest.mark.slow
def test_every_module_imports_without_posix_only_modules():
    files = [ROOT / "app.py", *sorted((ROOT / "lily").rglob("*.py"))]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in files]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        input=json.dumps([sorted(POSIX_ONLY), names]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    failed, refused_fcntl, count = json.loads(run.stdout.splitlines()[-1])
    assert not failed
    assert refused_fcntl and count > 100  # the refusal works, and there was much to import


def test_peak_memory_is_left_out_where_the_system_does_not_report_it(monkeypatch):
    assert peak_memory(torch.device("cpu")) > 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) is None


class Windows:
    """The module os as on Windows: names are not linked, and renaming overwrites nothing."""

    name = "nt"

    def __getattr__(self, name: str):
        if name in ("link", "pathconf", "fork"):
            raise AttributeError(name)
        return getattr(os, name)

    def rename(self, source: Path, target: Path) -> None:
        if os.path.exists(target):
            raise FileExistsError(17, "File exists", str(target))
        os.rename(source, target)


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(temp_files, "os", Windows())
    monkeypatch.setattr(temp_files, "fcntl", None)


def test_a_file_gets_its_name_at_the_end_by_renaming(windows, tmp_path):
    with temp_files.FileGroup() as files:
        files.write_text(tmp_path / "a.json", "{}")
        assert not (tmp_path / "a.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_name_that_was_taken_meanwhile_is_kept(windows, tmp_path):
    with pytest.raises(InputError, match="exists already"), temp_files.FileGroup() as files:
        files.write_text(tmp_path / "a.json", "{}")
        (tmp_path / "a.json").write_text("precious")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]
