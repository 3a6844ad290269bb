"""On a ZeroGPU Space the same samples come out, in GPU calls that are short enough to be granted.

``spaces`` is faked: it hands everything over by value, as its forked process does, and keeps count.
"""

from __future__ import annotations

import pickle
import sys
import types
from functools import partial

import pytest
import soundfile
import torch

from lily.checkpoints.model_folder import load_model, read_folder_config, save_model_folder
from lily.config.presets import load_config
from lily.inference import zerogpu as zero
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Sampling, StopEarly, UpsampleOptions
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


@pytest.mark.parametrize(("most", "calls"), [(100.0, 1), (12.0, 9)])
def test_however_many_calls_the_samples_are_the_same(
    spaces, config, recording, tmp_path, monkeypatch, most, calls
):
    plain, expected = samples_of(InferenceEngine(config, "cpu"), recording, tmp_path / "plain")
    assert plain.chunks == 9
    monkeypatch.setattr(zero, "MOST_SECONDS", most)
    monkeypatch.setattr(zero, "ROW_SECONDS", 4.0)
    _, made = samples_of(zero.engine_maker()(config), recording, tmp_path / "zero")
    assert (made == expected).all()
    assert len(spaces.granted) == calls
    assert all(zero.START_SECONDS < seconds <= most for seconds in spaces.granted)


def test_progress_comes_through_and_a_stop_ends_the_call(spaces, config, recording, tmp_path):
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
    monkeypatch.setattr(zero, "ROW_SECONDS", 4.0)

    def stopped(engine, out):
        stream = engine.stream(recording, out, UpsampleOptions(seed=3, steps=2))
        done = 0
        while done < after:
            done += isinstance(next(stream), ChunksDone)
        result = stream.throw(StopEarly()).result
        return result, soundfile.read(result.output, dtype="int32")[0]

    plain, expected = stopped(InferenceEngine(config, "cpu"), tmp_path / "plain")
    kept, made = stopped(zero.engine_maker()(config), tmp_path / "zero")
    assert 0 < kept.chunks == plain.chunks < 9 and not kept.complete
    assert made.shape == expected.shape and (made == expected).all()


def test_what_calls_had_finished_when_the_quota_ended_is_there_for_the_next_run(
    spaces, config, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(zero, "MOST_SECONDS", 12.0)  # a chunk a call
    monkeypatch.setattr(zero, "ROW_SECONDS", 4.0)
    engine = zero.engine_maker()(config)
    _, expected = samples_of(engine, recording, tmp_path / "whole")
    gpu, calls = engine.filler, len(spaces.granted)
    push = engine.filler.args[0].args[0]

    def refused(*arguments):
        if len(spaces.granted) >= calls + 4:
            raise RuntimeError("You have exceeded your GPU quota")
        yield from push(*arguments)

    call = partial(zero._call, refused, engine.config)
    engine.filler = partial(gpu.func, call)
    chosen = UpsampleOptions(seed=3, steps=2, resume=True)
    with pytest.raises(RuntimeError, match="quota"):
        list(engine.stream(recording, tmp_path / "out", chosen))
    engine.filler = gpu
    *_, last = engine.stream(recording, tmp_path / "out", chosen)
    assert last.result.resumed == 4
    assert (soundfile.read(last.result.output, dtype="int32")[0] == expected).all()


def test_a_process_forked_before_the_model_was_loaded_loads_it_itself(
    spaces, config, recording, tmp_path, monkeypatch
):
    maker = zero.engine_maker()
    engine = maker(config)
    _, expected = samples_of(engine, recording, tmp_path / "one")
    loaded = []
    monkeypatch.setattr(zero, "load_model", lambda c: loaded.append(c["weights"]) or load_model(c))
    maker.__self__._held = None
    _, made = samples_of(engine, recording, tmp_path / "two")
    assert loaded == [config["weights"]] and (made == expected).all()


def test_a_longer_or_heavier_run_asks_for_more_up_to_the_most(config, monkeypatch):
    asked = []
    for channels, steps in ((1, 2), (2, 2), (2, 50)):
        settings = types.SimpleNamespace(channels=channels, steps=steps, guidance=3.5)
        filler = types.SimpleNamespace(
            settings=settings,
            inference=types.SimpleNamespace(chunk=128),
            chunks=[None] * 20,
        )
        asked.append(zero.call_size(filler)[1])
    assert asked == sorted(asked) and len(set(asked)) == 3 and asked[-1] <= zero.MOST_SECONDS
