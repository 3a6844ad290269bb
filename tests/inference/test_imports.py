"""A run imports only what it uses: start-up is a large part of a short run."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, pkgutil, sys
from pathlib import Path
import lily.inference, lily.certify
for package in (lily.inference, lily.certify):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import soundfile, torch
from lily import InferenceEngine, load_config
folder = Path(sys.argv[1])
noise = torch.randn(8_000, generator=torch.Generator().manual_seed(0)) * 0.1
soundfile.write(folder / "a.wav", noise.numpy(), 16_000)
engine = InferenceEngine(load_config("lily-mini"), device="cpu")
engine.run_inference(folder / "a.wav", folder / "out", seed=1)
print(*(name for name in ("scipy.signal", "scipy.stats", "gradio", "matplotlib", "ray", "spaces",
                        "sympy", "torch._dynamo")
        if name in sys.modules))
"""


@pytest.mark.slow
def test_a_run_imports_neither_the_compiler_nor_scipy_signal_nor_gradio(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []


def test_importing_the_package_is_light():
    code = "import sys, lily; print('torch' in sys.modules or 'pydantic' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.split() == ["False"], ran.stderr
