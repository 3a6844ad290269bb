"""Devices without the hardware: a whole run on a fake device, refusals, and memory that runs out.

The fake device is torch's ``meta``: its kernels refuse tensors of two devices as a GPU does, and a
mode stands in for what has values: copies to the CPU are zeros.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lily.checkpoints.model_folder import save_model_folder
from lily.cli import main
from lily.errors import InputError
from lily.evaluation.benchmark import write_recording
from lily.inference import device as devices
from lily.inference.engine import InferenceEngine
from lily.inference.sample import ChunkSampler
from lily.training.train import _build

META = torch.device("meta")
# Attention kernels that torch chooses for a CPU and for ``meta``; MPS has one of its own. All other
# operators are looked up in native_functions.yaml, which comes with torch.
OTHER_ATTENTION = {
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_fused_attention_overrideable",
}


class FakeDevice(TorchDispatchMode):
    """Records the operators that tensors of the fake device meet, and every float64 among them."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[str] = set()
        self.float64: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = any(x.device == META for x in given)
        name = func._schema.name
        if on_device and name == "aten::_to_copy" and str(kwargs.get("device")) == "cpu":
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if on_device and name == "aten::_local_scalar_dense":
            return 0
        if on_device and name == "aten::equal":  # its answer is on the CPU; differing is general
            self.operators.add(name)
            return False
        with self:  # in inference mode composite operators arrive whole
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        made = func(*args, **kwargs)
        tensors = [x for x in (*given, *tree_leaves(made)) if isinstance(x, torch.Tensor)]
        if any(x.device == META for x in tensors):
            self.operators.add(name)
            if any(
                x.device == META and x.dtype in (torch.float64, torch.complex128) for x in tensors
            ):
                self.float64.add(name)
        return made


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    from lily.config.presets import load_config

    folder, config = tmp_path_factory.mktemp("tiny"), load_config("tiny")
    save_model_folder(_build(config, 0), config, folder / "model")
    return folder


@pytest.fixture(scope="module")
def fake_run(tiny_folder) -> FakeDevice:
    """A whole run of the tiny preset, encoder on, on the fake device."""
    from lily.checkpoints.folder_config import read_folder_config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lily.inference.engine.choose_device", lambda _: META)
        engine = InferenceEngine(read_folder_config(tiny_folder / "model"), "mps", "fp32")
        recording = write_recording(tiny_folder / "noise.wav", 2.0, 2)
        with FakeDevice() as fake:
            result = engine.run_inference(recording, tiny_folder / "out", seed=1)
    assert result.chunks > 1 and result.encoder
    return fake


def test_the_fake_device_sees_the_networks_and_finds_float64(fake_run):
    assert {"aten::convolution", "aten::native_group_norm", "aten::bmm"} & fake_run.operators
    with FakeDevice() as fake:
        torch.zeros(3, device=META).double()
    assert fake.float64


def test_no_float64_tensor_is_made_on_a_device(fake_run):
    assert not fake_run.float64


def test_apple_gpus_have_every_operator_of_a_run(fake_run):
    assert not sorted(fake_run.operators - _mps_operators() - OTHER_ATTENTION)


def _mps_operators() -> set[str]:
    """Operators with a kernel for MPS: their own, their structured form's, or every device's."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    covered, delegates = set(), {}
    for entry in entries:
        signature = entry["func"].split("(")[0]
        keys = {key.strip() for each in entry.get("dispatch", {}) for key in each.split(",")}
        composite = any(key.startswith("Composite") for key in keys) or not entry.get("dispatch")
        if "structured_delegate" in entry:
            delegates[signature] = entry["structured_delegate"]
        elif "MPS" in keys or composite:
            covered.add(signature)
    covered |= {name for name, target in delegates.items() if target in covered}
    return {f"aten::{name.split('.')[0]}" for name in covered}


@pytest.mark.parametrize(("name", "kind"), [("cuda", "CUDA or ROCm"), ("mps", "Apple")])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(monkeypatch, name, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"No {kind} GPU is available to torch here"):
        devices.choose_device(name)
    assert devices.choose_device("auto") == torch.device("cpu")


def test_auto_takes_the_gpu_that_is_there_and_offered(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.choose_device("auto") == torch.device("mps")
    assert devices.choose_device("auto", ("auto", "cpu", "cuda")) == torch.device("cpu")
    with pytest.raises(InputError, match="not known here"):
        devices.choose_device("mps", ("auto", "cpu", "cuda"))


def test_an_unknown_device_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["upsample", "a.wav", "-o", "out", "--device", "tpu"])
    assert stopped.value.code == 2 and "'auto'" in capsys.readouterr().err


def test_the_precision_follows_the_device_and_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    for able in (True, False):
        monkeypatch.setattr(devices, "multiplies_bfloat16", lambda able=able: able)
        wanted = torch.bfloat16 if able else torch.float32
        assert devices.choose_precision("auto", cpu, large=True) is wanted
        assert devices.choose_precision("auto", cpu, large=False) is torch.float32
        assert devices.choose_precision("auto", torch.device("mps"), large=True) is torch.float32
    assert devices.choose_precision("auto", torch.device("mps"), large=True) is torch.float32


def test_an_apple_gpu_that_runs_out_of_memory_halves_the_batch(tiny_folder, monkeypatch):
    from lily.checkpoints.folder_config import read_folder_config

    engine = InferenceEngine(read_folder_config(tiny_folder / "model"), "cpu")
    encode, calls = ChunkSampler._encode, []

    def short_of_memory(sampler, items, places):
        calls.append(sampler.batch)
        if sampler.batch > 1:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, max: 18 GB).")
        return encode(sampler, items, places)

    monkeypatch.setattr(ChunkSampler, "_encode", short_of_memory)
    recording = write_recording(tiny_folder / "memory.wav", 2.0, 1)
    result = engine.run_inference(recording, tiny_folder / "halved", seed=1)
    assert calls[:2] == [2, 1] and result.complete
    assert "Memory ran out" in result.message


@pytest.mark.parametrize("lacking", ["unet", "vocoder"])
def test_an_operator_that_a_device_lacks_is_named_in_a_sentence(tiny_folder, monkeypatch, lacking):
    from lily.checkpoints.folder_config import read_folder_config

    engine = InferenceEngine(read_folder_config(tiny_folder / "model"), "cpu")

    def missing(*_, **__):
        raise NotImplementedError("The operator 'aten::_fft_r2c' is not currently implemented.")

    network = {"unet": engine.model.unet, "vocoder": engine.model.first_stage_model.vocoder}
    monkeypatch.setattr(network[lacking], "forward", missing)
    recording = write_recording(tiny_folder / f"{lacking}.wav", 2.0, 1)
    with pytest.raises(InputError, match=r"lacks the operator aten::_fft_r2c on cpu; give --dev"):
        engine.run_inference(recording, tiny_folder / f"without-{lacking}", seed=1)
    assert not list((tiny_folder / f"without-{lacking}").glob("*.wav"))


def test_operators_that_an_apple_gpu_lacks_may_run_on_the_cpu():
    code = (
        "import os, sys; from lily.cli import main\n"
        "try: main(['upsample', 'gone.wav', '-o', 'new'])\n"
        "finally: print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "False"]
