"""What the documentation names exists: links, files, modules, commands, variables, packages."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lily.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "lily" / "assets").rglob("*.md")),
]
README_LINES = 120  # three screens: what is longer is not read
SCRIPT = re.compile(r"(?:\S*python3? |pytest .*?)((?:benchmarks|docs|tests)/[\w/]+(?:\.py)?)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    """A page's blocks of code of one kind."""
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may name, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every call of Lily in a page's shell blocks."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            call = re.search(r"(?:-m lily|^lily) (.*)", line)
            if call:
                words = shlex.split(call[1], comments=True)
                yield words[: words.index(">")] if ">" in words else words


@pytest.fixture(params=PAGES, ids=name_of)
def page(request) -> Path:
    return request.param


def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(path), f"{name_of(page)}: no heading {target}"


def test_files_and_modules_that_are_named_exist(page):
    for span in re.findall(r"`([^`\s]+)`", prose(page)):
        if re.match(r"(lily|docs|tests|configs|benchmarks|\.ci)/", span):
            assert list(ROOT.glob(span.rstrip("/"))), f"{name_of(page)} names {span}"
        if re.fullmatch(r"lily(\.\w+)+", span):
            parts = span.split(".")
            packages = [part for part in parts if part.islower() and "(" not in part]
            path = ROOT.joinpath(*packages)
            found = path.is_dir() or path.with_suffix(".py").is_file()
            module = path.parent.with_suffix(".py")  # the last part may be a name in it
            inside = module.is_file() and packages[-1] in module.read_text(encoding="utf-8")
            assert found or inside, f"{name_of(page)} names {span}"


def test_commands_parse_and_their_scripts_exist(page):
    for words in commands(page):
        try:
            build_parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{name_of(page)}: lily {' '.join(words)} does not parse")
    for block in blocks(page, "bash"):
        for script in SCRIPT.findall(block):
            assert (ROOT / script).exists(), f"{name_of(page)} runs {script}"


def test_recordings_that_commands_name_are_in_the_clone(page):
    for block in [*blocks(page, "bash"), *blocks(page, "python")]:
        for name in re.findall(r"lily/assets/[\w./*-]+", block):
            assert list(ROOT.glob(name)), f"{name_of(page)} uses {name}"


def test_python_blocks_compile(page):
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


def test_every_environment_variable_is_documented():
    sources = [ROOT / "app.py", *(ROOT / "lily").rglob("*.py")]
    read = {name for path in sources for name in re.findall(r'"(LILY_[A-Z_]+)"', path.read_text())}
    table = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"`(LILY_[A-Z_]+)`", table))


def test_every_required_package_is_documented():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    table = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for line in lines:
        name = line.replace("==", " ") if "==" in line else re.split(r"[<>=]", line)[0]
        assert f"| {name} |" in table, f"docs/dependencies.md lacks {name}"


def test_the_readme_stays_short_and_starts_with_the_space_card():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    assert text.startswith("---\ntitle: Lily\n") and "\nsdk: gradio\n" in text
    pinned = re.search(r"gradio==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert pinned and f"\nsdk_version: {pinned[1]}\n" in text


@pytest.mark.slow
def test_the_readmes_command_and_snippet_run_one_after_the_other(tmp_path):
    (command,) = [
        line
        for block in blocks(README, "bash")
        for line in re.findall(r"^python -m lily.*", block, re.MULTILINE)
    ]
    (snippet,) = blocks(README, "python")
    python = shlex.quote(sys.executable)
    steps = (command.replace("python", python, 1), f"{python} -c {shlex.quote(snippet)}")
    for step in steps:
        done = subprocess.run(
            ["bash", "-euc", step.replace("restored", str(tmp_path / "restored"))],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "restored").glob("*.wav")} == {
        "speech.wav",
        "music.wav",
    }
