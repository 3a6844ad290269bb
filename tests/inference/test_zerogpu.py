"""On a ZeroGPU Space the same samples come out, in GPU calls that are short enough to be granted.

``spaces`` is faked: it hands everything over by value, as its forked process does, and keeps count.
"""

from __future__ import annotations

import pickle
import sys
import threading
import types

import pytest
import soundfile
import torch

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import load_model, save_model_folder
from lily.config.presets import load_config
from lily.inference import zerogpu as zero
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Sampling
from lily.inference.options import UpsampleOptions
from lily.inference.sample import SamplingConfig
from lily.model.latent_diffusion import LatentDiffusion


class FakeSpaces(types.ModuleType):
    """``spaces`` as far as Lily uses it; ``granted`` holds the seconds of every call."""

    def __init__(self) -> None:
        super().__init__("spaces")
        self.granted: list[float] = []
        self.ended = 0

    def GPU(self, duration):  # noqa: N802  spaces' name
        """Decorate a generator function that will run elsewhere."""

        def decorate(function):
            def call(*arguments):
                arguments = pickle.loads(pickle.dumps(arguments))
                self.granted.append(duration(*arguments))
                made = function(*arguments)
                try:
                    for value in made:
                        yield pickle.loads(pickle.dumps(value))
                finally:
                    made.close()
                    self.ended += 1

            return call

        return decorate


@pytest.fixture
def spaces(monkeypatch) -> FakeSpaces:
    fake = FakeSpaces()
    monkeypatch.setitem(sys.modules, "spaces", fake)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    return fake


@pytest.fixture
def config(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        preset = load_config("tiny")
        model = LatentDiffusion(**preset["model"]["params"])
        for module in model.unet.conditioned():
            torch.nn.init.normal_(module.global_out.weight, std=0.5)
        save_model_folder(model, preset, tmp_path / "model", dtype=torch.float32)
    return read_folder_config(tmp_path / "model")


@pytest.fixture
def recording(tmp_path):
    samples = 0.1 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "six seconds.wav"
    soundfile.write(path, samples.T.numpy(), 8_000)
    return path


def samples_of(engine, recording, out):
    result = engine.run_inference(recording, out, seed=3, steps=2)
    return result, soundfile.read(result.output, dtype="int32")[0]


def test_elsewhere_the_engine_is_the_plain_one(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zero.engine_maker() is InferenceEngine


@pytest.mark.slow
@pytest.mark.parametrize(("most", "calls"), [(100.0, 1), (12.0, 9)])
def test_however_many_calls_the_samples_are_the_same(
    spaces, config, recording, tmp_path, monkeypatch, most, calls
):
    plain, expected = samples_of(InferenceEngine(config, "cpu"), recording, tmp_path / "plain")
    assert plain.chunks == 9
    monkeypatch.setattr(zero, "MOST_SECONDS", most)
    monkeypatch.setattr(zero, "ITEM_SECONDS", 6.0)  # two items, a chunk's channels, in 2 s
    _, made = samples_of(zero.engine_maker()(config), recording, tmp_path / "zero")
    assert (made == expected).all()
    assert len(spaces.granted) == calls
    assert all(zero.START_SECONDS < seconds <= most for seconds in spaces.granted)


@pytest.mark.slow
def test_a_comparison_is_sampled_in_the_same_calls(spaces, config, recording, tmp_path):
    for engine, name in (
        (InferenceEngine(config, "cpu"), "plain"),
        (zero.engine_maker()(config), "zero"),
    ):
        list(engine.compare(recording, tmp_path / name, UpsampleOptions(seed=3, steps=2)))
    for kind in ("off", "on", "diff"):
        plain, made = (tmp_path / name / f"six seconds.{kind}.wav" for name in ("plain", "zero"))
        assert plain.read_bytes() == made.read_bytes()
    assert len(spaces.granted) == 1


def test_progress_comes_through_and_closing_ends_the_call(spaces, config, recording, tmp_path):
    engine = zero.engine_maker()(config)
    options = UpsampleOptions(seed=3, steps=2)
    events = list(engine.stream(recording, tmp_path / "all", options))
    assert {type(e) for e in events} >= {Sampling, ChunksDone}
    stream = engine.stream(recording, tmp_path / "some", options)
    while not isinstance(next(stream), Sampling):
        pass
    stream.close()
    assert spaces.ended == len(spaces.granted) == 2
    assert not list((tmp_path / "some").glob("*"))


@pytest.mark.parametrize(("most", "after"), [(100.0, 1), (100.0, 3), (12.0, 3)])
def test_a_stop_keeps_the_finished_chunks_wherever_in_a_call_it_falls(
    spaces, config, recording, tmp_path, monkeypatch, most, after
):
    monkeypatch.setattr(zero, "MOST_SECONDS", most)
    monkeypatch.setattr(zero, "ITEM_SECONDS", 6.0)

    def stopped(engine, out):
        stop, done = threading.Event(), 0
        for event in engine.stream(recording, out, UpsampleOptions(seed=3, steps=2), stop=stop):
            done += isinstance(event, ChunksDone)
            if done >= after:
                stop.set()
        return event.result, soundfile.read(event.result.output, dtype="int32")[0]

    plain, expected = stopped(InferenceEngine(config, "cpu"), tmp_path / "plain")
    kept, made = stopped(zero.engine_maker()(config), tmp_path / "zero")
    assert spaces.ended == len(spaces.granted)
    assert 0 < kept.chunks == plain.chunks < 9 and not kept.complete
    assert made.shape == expected.shape and (made == expected).all()


@pytest.mark.slow
def test_what_calls_had_finished_when_the_quota_ended_is_there_for_the_next_run(
    spaces, config, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(zero, "MOST_SECONDS", 12.0)  # a chunk a call
    monkeypatch.setattr(zero, "ITEM_SECONDS", 6.0)
    engine = zero.engine_maker()(config)
    _, expected = samples_of(engine, recording, tmp_path / "whole")
    call, calls = engine.sampler._call, len(spaces.granted)

    def refused(*arguments):
        if len(spaces.granted) >= calls + 4:
            raise RuntimeError("You have exceeded your GPU quota")
        yield from call(*arguments)

    monkeypatch.setattr(engine.sampler, "_call", refused)
    chosen = UpsampleOptions(seed=3, steps=2, resume=True)
    with pytest.raises(RuntimeError, match="quota"):
        list(engine.stream(recording, tmp_path / "out", chosen))
    monkeypatch.setattr(engine.sampler, "_call", call)
    *_, last = engine.stream(recording, tmp_path / "out", chosen)
    assert last.result.resumed == 4
    assert (soundfile.read(last.result.output, dtype="int32")[0] == expected).all()


@pytest.mark.slow
def test_a_process_forked_before_the_model_was_loaded_loads_it_itself(
    spaces, config, recording, tmp_path, monkeypatch
):
    maker = zero.engine_maker()
    engine = maker(config)
    _, expected = samples_of(engine, recording, tmp_path / "one")
    loaded = []
    monkeypatch.setattr(zero, "load_model", lambda c: loaded.append(c["weights"]) or load_model(c))
    maker.__self__._loaded = None
    _, made = samples_of(engine, recording, tmp_path / "two")
    assert loaded == [config["weights"]] and (made == expected).all()


def test_a_call_asks_for_more_seconds_the_heavier_its_items_are():
    def seconds(**changes):
        of = {
            "length": 128,
            "steps": 2,
            "sampler": "ddim",
            "guidance": 1.0,
            "guided": (0, 1000),
            "temperature": 1.0,
        }
        of |= {"draws_low": False, "conditioned": (True,)} | changes
        return zero.item_seconds(SamplingConfig(**of))

    plain = seconds()
    for change in ({"steps": 50}, {"guidance": 3.5}, {"conditioned": (False, True)}):
        assert seconds(**change) > plain
    assert seconds(length=64) == plain / 2
