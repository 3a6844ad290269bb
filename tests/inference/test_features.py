"""The encoder and the U-Net hear one reading of a recording, and the same bits as of two."""

import pytest
import soundfile
import torch
from test_engine import make_folder

from lily import InferenceEngine
from lily.audio import spool
from lily.audio.read import read_audio
from lily.checkpoints.model_folder import read_folder_config
from lily.inference.events import ChunksDone, ContextRead, Planned, UpsampleOptions


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("model"))
    return InferenceEngine(read_folder_config(folder), device="cpu")


def recording(path, channels, rate=44_100, seconds=12.0):
    generator = torch.Generator().manual_seed(channels)
    noise = torch.randn(channels, round(seconds * rate), generator=generator) * 0.1
    soundfile.write(path, noise.T.numpy(), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("in_memory", [1 << 30, 1000])
def test_what_pass_2_has_heard_gives_pass_3_the_bits_of_its_own_reading(
    engine, tmp_path, monkeypatch, channels, in_memory
):
    monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
    path = recording(tmp_path / "a.wav", channels)
    options = UpsampleOptions(seed=1, steps=1, cutoff_hz=6000.0)
    context = engine.context_of(path, options)
    list(engine.stream(path, tmp_path / "heard", options))
    list(engine.stream(path, tmp_path / "read", options, context=context))  # pass 3 reads alone
    made = [read_audio(tmp_path / name / "a.wav") for name in ("heard", "read")]
    assert torch.equal(*made)
    left = sorted(p.name for p in (tmp_path / "heard").iterdir())
    assert left == ["a.json", "a.wav"]


def test_the_file_is_decoded_once_for_the_encoder_and_the_chunks(engine, tmp_path, monkeypatch):
    path = recording(tmp_path / "a.wav", 1)
    blocks, opened = engine.blocks, []
    monkeypatch.setattr(engine, "blocks", lambda p: opened.append(p) or blocks(p))
    options = UpsampleOptions(seed=1, steps=1, cutoff_hz=6000.0)
    told = [type(event) for event in engine.stream(path, tmp_path / "o", options)]
    assert len(opened) == 1  # beside the reading that measures
    assert told.index(ContextRead) < told.index(Planned) < told.index(ChunksDone)
