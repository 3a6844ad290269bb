"""A release holds all that Lily needs: built, installed and run without the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import soundfile

from lily.version import VERSION

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("lily", "configs", "setup.py", "pyproject.toml", "requirements.txt")
READ = ("README.md", "LICENSE")  # by pyproject.toml
NO_ISOLATION = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")  # no network


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command outside the clone and return its standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources() -> set[str]:
    """Every file of the package and its presets, by its path in the wheel."""
    package = {path: path.relative_to(ROOT) for path in (ROOT / "lily").rglob("*")}
    presets = {path: "lily" / path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*")}
    return {
        name.as_posix()
        for path, name in (package | presets).items()
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a source archive that was built from a copy of the tree."""
    if tuple(map(int, metadata.version("setuptools").split(".")[:2])) < (77, 0):
        pytest.skip("needs setuptools 77 or later: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES + READ:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    build = "import setuptools.build_meta as backend; backend.build_sdist('../sdist')"
    run(sys.executable, "-c", build, cwd=tree)
    (archive,) = (folder / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as source:
        assert any(name.endswith("/requirements.txt") for name in source.getnames())
    run(sys.executable, "-m", "pip", "wheel", *NO_ISOLATION, archive, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_file_of_the_package_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    information = f"lily_audio-{VERSION}.dist-info"
    assert {name for name in names if name.split("/")[0] != information} == sources()


def test_an_installed_wheel_restores_a_recording_without_the_clone(wheel, tmp_path):
    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    run(
        *(sys.executable, "-m", "pip", "install", *NO_ISOLATION, "--target", installed, wheel),
        cwd=work,
    )
    place = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    found = run(sys.executable, "-c", "import lily; print(lily.__file__)", cwd=work, **place)
    assert Path(found.strip()).is_relative_to(installed)

    samples, rate = soundfile.read(ROOT / "lily" / "assets" / "examples" / "speech.flac")
    soundfile.write(work / "speech.wav", samples[: 2 * rate], rate)
    run(sys.executable, "-m", "lily", "upsample", "speech.wav", "-o", "restored", cwd=work, **place)
    written = soundfile.info(work / "restored" / "speech.wav")
    assert (written.samplerate, written.frames) == (48_000, 2 * 48_000)
