"""What the command line says before it computes anything."""

from __future__ import annotations

import io
import subprocess
import sys
from argparse import Namespace

import pytest

from lily.cli import build_parser, main
from lily.cli.model import load_engine
from lily.inference.options import UpsampleOptions
from lily.version import VERSION


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"lily {VERSION}\n"


def test_usage_names_the_command_that_was_typed(monkeypatch):
    run = subprocess.run([sys.executable, "-m", "lily", "-h"], capture_output=True, text=True)
    assert run.stdout.startswith("usage: python -m lily ")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lily"])
    assert build_parser().format_usage().startswith("usage: lily ")


@pytest.mark.parametrize(
    "arguments", [["--foo"], ["a.wav", "-o", "b", "--foo"], ["a.wav", "-o", "b", "--steps", "x"]]
)
def test_a_wrong_option_is_answered_with_the_usage_of_its_command(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["upsample", *arguments])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert " upsample [-h]" in said.splitlines()[0] and " upsample: error: " in said


def test_bench_offers_no_option_without_a_meaning(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    assert "--steps" in text
    assert not any(option in text for option in ("--resume", "--cutoff", "--seed"))


def test_a_terminal_shows_what_is_loaded_before_the_model_loads(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def engine(config, device, precision):
        assert "loading lily-mini" in terminal.getvalue()
        return config["name"], device

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("lily.inference.engine.InferenceEngine", engine)
    chosen = Namespace(weights=None, preset="lily-mini", device="cpu", precision="auto")
    assert load_engine(chosen, UpsampleOptions()) == ("lily-mini", "cpu")
