"""Laws of the engine: length, level, the input's band, the same bits whatever stands beside it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.audio.read import read_audio
from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import save_model_folder
from lily.config.presets import load_config
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel
from lily.errors import InputError
from lily.inference import reading
from lily.inference.analyze import analyze
from lily.inference.engine import InferenceEngine
from lily.inference.events import (
    Analyzed,
    ChunksDone,
    ContextRead,
    Finished,
    Planned,
    Reading,
    Sampling,
    Written,
)
from lily.inference.options import UpsampleOptions as Options
from lily.inference.sample import ChunkSampler
from lily.model.latent_diffusion import LatentDiffusion


def make_folder(path: Path, seed: int = 0, trained: bool = True) -> Path:
    """A tiny model folder with weights from a seed; ``trained`` gives the conditioning a say."""
    config = load_config("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LatentDiffusion(**config["model"]["params"])
        if trained:
            for module in model.unet.conditioned():
                torch.nn.init.normal_(module.global_out.weight, std=0.5)
    save_model_folder(model, config, path, dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> InferenceEngine:
    folder = make_folder(tmp_path_factory.mktemp("model"))
    return InferenceEngine(read_folder_config(folder), device="cpu")


def band_limited(seconds: float, cutoff: float, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels, round(seconds * 48_000), generator=generator) * 0.1
    return filter_whole(noise, lowpass_kernel(0.97 * cutoff, 1.03 * cutoff, 48_000))


def write(path: Path, samples: torch.Tensor, rate: int = 48_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples.T.numpy(), rate, subtype=subtype)
    return path


def run(engine: InferenceEngine, path: Path, out: Path, **options) -> torch.Tensor:
    options = {"seed": 3, "steps": 2, **options}
    result = engine.run_inference(path, out, **options)
    return read_audio(result.output)


def decibels(x: torch.Tensor) -> float:
    return 10 * math.log10(float(x.double().square().mean()) + 1e-30)


def test_input_band_is_the_input_and_the_band_above_is_filled(engine, tmp_path):
    recording = band_limited(4.0, 6000.0, channels=2)
    output = run(engine, write(tmp_path / "a.wav", recording), tmp_path / "o", cutoff_hz=6000.0)
    assert output.shape == recording.shape
    below = lowpass_kernel(0.8 * 6000, 0.9 * 6000, 48_000)
    difference = filter_whole(output - recording, below)
    assert decibels(difference) < decibels(recording) - 45  # random weights are loud
    above = highpass_kernel(6600, 7200, 48_000)
    assert decibels(filter_whole(output, above)) > decibels(filter_whole(recording, above)) + 20


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 96_000])
def test_length_is_exact_at_every_rate(engine, tmp_path, rate):
    count = round(1.37 * rate) + 1
    samples = 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(1))
    path = write(tmp_path / "a.wav", samples, rate)
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1)
    assert result.samples == -(-count * 48_000 // rate)
    assert result.sample_rate == 48_000 and soundfile.info(result.output).samplerate == 48_000


def test_same_seed_same_bits_and_another_seed_others(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(3.0, 4000.0))
    first, again, other = (
        run(engine, path, tmp_path / name, seed=seed, cutoff_hz=4000.0)
        for name, seed in (("1", 7), ("2", 7), ("3", 8))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_channels_share_the_context_and_the_carriers_analysis_and_nothing_else(engine, tmp_path):
    # An inverted copy has the same analysis, which is of the channels' mean power.
    left = band_limited(3.0, 4000.0)
    stereo = torch.cat([left, -left])
    options = {"cutoff_hz": 4000.0, "encoder": False}
    both = run(engine, write(tmp_path / "both.wav", stereo), tmp_path / "o", **options)
    alone = run(engine, write(tmp_path / "left.wav", left), tmp_path / "o", **options)
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_identical_channels_stay_identical(engine, tmp_path):
    mono = band_limited(3.0, 4000.0)
    path = write(tmp_path / "a.wav", mono.repeat(2, 1))
    output = run(engine, path, tmp_path / "o", cutoff_hz=4000.0)
    assert torch.equal(output[0], output[1])


@pytest.mark.slow
def test_encoder_reads_the_recording_once_and_changes_the_output(engine, contexts, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(6.0, 4000.0))
    on = run(engine, path, tmp_path / "on", cutoff_hz=4000.0)
    assert len(contexts) == 1
    off = run(engine, path, tmp_path / "off", cutoff_hz=4000.0, encoder=False)
    assert len(contexts) == 1
    assert not torch.equal(on, off)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_what_is_kept_between_the_passes_changes_no_bit(engine, tmp_path, monkeypatch, rate):
    path = write(tmp_path / "a.wav", band_limited(7.0, 6_000.0, channels=2)[:, : 7 * rate], rate)
    decoded, blocks = [], reading.resampled_blocks
    monkeypatch.setattr(reading, "resampled_blocks", lambda *of: decoded.append(1) or blocks(*of))
    kept = run(engine, path, tmp_path / "kept")
    assert not decoded  # after the analysis
    monkeypatch.setattr(reading, "KEPT_BYTES", 0)
    assert torch.equal(run(engine, path, tmp_path / "read"), kept)
    assert len(decoded) == 2


def test_untrained_encoder_changes_no_bit(tmp_path):
    folder = make_folder(tmp_path / "model", trained=False)
    engine = InferenceEngine(read_folder_config(folder), device="cpu")
    path = write(tmp_path / "a.wav", band_limited(3.0, 4000.0))
    on = run(engine, path, tmp_path / "on", cutoff_hz=4000.0)
    off = run(engine, path, tmp_path / "off", cutoff_hz=4000.0, encoder=False)
    assert torch.equal(on, off)


def test_events_come_in_order_and_cover_every_chunk(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(5.0, 4000.0, channels=2))
    events = list(engine.stream(path, tmp_path / "o", Options(seed=1, steps=2, cutoff_hz=4000.0)))
    kinds = [type(event) for event in events]
    assert kinds[0] is Reading and kinds[-1] is Finished
    order = [kinds.index(kind) for kind in (Analyzed, ContextRead, Planned, Sampling)]
    assert order == sorted(order)
    planned = next(e for e in events if isinstance(e, Planned))
    done = [i for e in events if isinstance(e, ChunksDone) for i in e.chunks]
    assert done == list(range(len(planned.chunks)))
    assert planned.chunks[0][0] == 0 and planned.chunks[-1][1] == pytest.approx(5.0)


@pytest.mark.parametrize(("until", "left"), [(Sampling, []), (ChunksDone, ["a.wav.part"])])
def test_closing_the_stream_leaves_finished_chunks_and_nothing_else(engine, tmp_path, until, left):
    path = write(tmp_path / "a.wav", band_limited(5.0, 4000.0))
    stream = engine.stream(path, tmp_path / "o", Options(seed=1, steps=2, cutoff_hz=4000.0))
    next(event for event in stream if isinstance(event, until))
    stream.close()
    assert [path.name for path in (tmp_path / "o").iterdir()] == left


def test_level_and_offset_are_kept_at_any_level(engine, tmp_path):
    recording = band_limited(2.0, 4000.0)
    loud = run(engine, write(tmp_path / "l.wav", recording), tmp_path / "o", cutoff_hz=4000.0)
    path = write(tmp_path / "q.wav", recording / 64 + 0.01)
    quiet = run(engine, path, tmp_path / "o", cutoff_hz=4000.0)
    assert torch.allclose((quiet - 0.01) * 64, loud, atol=2e-3)


def test_full_band_and_silence_come_back_unchanged(engine, tmp_path):
    noise = 0.1 * torch.randn(2, 96_000, generator=torch.Generator().manual_seed(0))
    for name, samples in (("full", noise), ("silent", torch.zeros(1, 4_800))):
        path = write(tmp_path / f"{name}.wav", samples, subtype="PCM_24")
        result = engine.run_inference(path, tmp_path / "o", seed=0)
        assert result.chunks == 0 and result.message
        assert torch.equal(read_audio(result.output), read_audio(path))


def test_the_reason_why_nothing_is_generated_is_given_once(engine, tmp_path):
    noise = 0.1 * torch.randn(1, 96_000, generator=torch.Generator().manual_seed(0))
    tone = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(96_000) / 48_000)[None]
    for reason, samples in (("full", noise), ("silent", 0 * tone), ("few tones", tone)):
        path = write(tmp_path / f"{reason}.wav", samples)
        result = engine.run_inference(path, tmp_path / "o", seed=0)
        sentences = f"{result.diagnosis.text} {result.message}"
        assert sentences.count(reason) == 1 and sentences.count("othing") == 1
        assert sentences.count("the output is the recording") == 1
        assert ("Give a cutoff" in sentences) is (reason != "silent")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"brightness_db": 0.0}, ""),
        ({"wall_hz": 16_000.0}, "The given wall has no effect on it."),
        (
            {"wall_hz": 16_000.0, "brightness_db": 3.0},
            "The given wall and brightness have no effect on it.",
        ),
    ],
)
def test_options_without_effect_on_an_unchanged_recording_are_named(engine, tmp_path, given, said):
    path = write(tmp_path / "silent.wav", torch.zeros(1, 4_800))
    message = engine.run_inference(path, tmp_path / "o", seed=0, **given).message
    assert (
        message == f"Nothing was generated: the output is the recording at 48 kHz. {said}".strip()
    )


def test_very_short_and_surround_recordings_work(engine, tmp_path):
    for name, shape in (("one", (1, 1)), ("two", (1, 2)), ("surround", (6, 30_000))):
        samples = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        path = write(tmp_path / f"{name}.wav", samples)
        result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=5000.0)
        assert (result.channels, result.samples) == shape
        assert bool(result.chunks) is (name != "one")  # a lone sample is all offset


@pytest.mark.slow
def test_two_minutes_have_one_context_for_every_chunk(engine, contexts, tmp_path, monkeypatch):
    seen = []
    condition = ChunkSampler._conditioning

    def spy(sampler, batch, variant):
        conditioning = condition(sampler, batch, variant)
        seen.extend(set(conditioning.cache.caches))
        return conditioning

    monkeypatch.setattr(ChunkSampler, "_conditioning", spy)
    path = write(tmp_path / "a.wav", band_limited(120.0, 4000.0))
    result = engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=4000.0)
    assert len(contexts) == 1
    assert len(seen) > 50 and result.chunks > 100
    assert all(cache is seen[0] for cache in seen)


def test_a_cutoff_above_the_recordings_own_nyquist_is_refused(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(1.0, 3000.0)[:, ::6].contiguous(), 8_000)
    with pytest.raises(InputError, match="4000"):
        engine.run_inference(path, tmp_path / "o", cutoff_hz=12_000.0)


def test_a_segment_that_starts_after_the_end_is_refused(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(2.0, 4000.0))
    pieces = ((0.0, 22_000.0), (9_999.0, 4_000.0))
    with pytest.raises(InputError, match=r"4000 Hz starts at 9999 s, after the end .* at 2.00 s"):
        engine.run_inference(path, tmp_path / "o", cutoff_hz=pieces)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("cutoff_hz", [19_999.0, 20_000.0, 22_000.0])
def test_above_a_cutoff_that_was_asked_for_something_is_generated(engine, tmp_path, cutoff_hz):
    recording = 0.1 * torch.randn(1, 96_000, generator=torch.Generator().manual_seed(4))
    path = write(tmp_path / "a.wav", recording)
    output = run(engine, path, tmp_path / "o", cutoff_hz=cutoff_hz, steps=1)
    above = highpass_kernel(1.02 * cutoff_hz, 1.05 * cutoff_hz, 48_000)
    level = decibels(filter_whole(output, above))
    # Random weights are loud; an emptied band would be 50 dB below the recording.
    assert level > decibels(filter_whole(recording, above)) - 10


def test_a_file_that_appears_during_the_run_is_kept(engine, tmp_path):
    path, taken = write(tmp_path / "a.wav", band_limited(4.0, 4000.0)), tmp_path / "o" / "a.wav"
    events = engine.stream(path, tmp_path / "o", Options(seed=1, steps=1, cutoff_hz=4000.0))
    with pytest.raises(InputError, match="exists already"):
        for event in events:
            if isinstance(event, ChunksDone):
                taken.write_bytes(b"another program's work")
    assert taken.read_bytes() == b"another program's work"
    assert {p.name for p in taken.parent.iterdir()} == {"a.wav", "a.wav.part"}


def test_a_full_disk_leaves_no_output(engine, tmp_path, monkeypatch):
    def full(self, block):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lily.inference.output.AudioWriter.write", full)
    path = write(tmp_path / "a.wav", band_limited(1.0, 4000.0))
    with pytest.raises(OSError):
        engine.run_inference(path, tmp_path / "o", seed=0, steps=1, cutoff_hz=4000.0)
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["a.wav.part"]  # its chunks


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"guidance": 99.0}, {"sampler": "magic"}, {"cutoff_hz": 10.0}, {"seed": -1}],
)
def test_impossible_options_are_one_sentence(engine, tmp_path, options):
    path = write(tmp_path / "a.wav", band_limited(1.0, 4000.0))
    with pytest.raises(InputError):
        engine.run_inference(path, tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_bad_files_leave_nothing_behind(engine, tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("not audio at all")
    nan = np.zeros((4_800, 1), np.float32)
    nan[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 48_000, subtype="FLOAT")
    for path in (text, tmp_path / "nan.wav", tmp_path / "missing.wav", tmp_path):
        with pytest.raises(InputError):
            engine.run_inference(path, tmp_path / "o")
        assert not (tmp_path / "o").exists()


def test_an_existing_output_is_never_overwritten(engine, tmp_path):
    path = write(tmp_path / "a.wav", band_limited(1.0, 4000.0))
    with pytest.raises(InputError, match="exists already"):
        engine.run_inference(path, tmp_path)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    config = read_folder_config(make_folder(tmp_path / "model"))
    path = write(tmp_path / "a.wav", band_limited(4.0, 4000.0))
    outputs = [
        run(InferenceEngine(config, device, "fp32"), path, tmp_path / device, cutoff_hz=4000.0)
        for device in ("cpu", "cuda")
    ]
    scale = outputs[0].abs().max()
    assert (outputs[0] - outputs[1]).abs().max() < 1e-4 * scale


def test_where_the_cutoff_changes_each_piece_keeps_its_own_band(engine, tmp_path):
    whole = 0.1 * torch.randn(1, 288_000, generator=torch.Generator().manual_seed(5))
    narrow = filter_whole(whole, lowpass_kernel(3_900, 4_100, 48_000))
    recording = torch.cat([whole[:, :144_000], narrow[:, 144_000:]], dim=1)
    path = write(tmp_path / "a.wav", recording)
    output = run(engine, path, tmp_path / "o", cutoff_hz=((0.0, 23_000.0), (3.0, 4_000.0)))
    edge = 2_000  # the fade, and what the filters see of the other side
    assert torch.allclose(output[:, : 144_000 - edge], recording[:, : 144_000 - edge], atol=2e-7)
    above = highpass_kernel(4_400, 4_800, 48_000)
    added = filter_whole(output - recording, above)[:, 144_000 + edge :]
    assert decibels(added) > decibels(filter_whole(narrow, above)) + 20


def test_the_encoder_reads_what_the_wide_part_has_and_no_more(engine, tmp_path):
    whole = 0.1 * torch.randn(1, 288_000, generator=torch.Generator().manual_seed(6))
    path = write(tmp_path / "a.wav", whole)
    pieces = ((0.0, 23_000.0), (3.0, 4_000.0))
    changing = engine.context_of(path, Options(cutoff_hz=pieces))
    constant = engine.context_of(path, Options(cutoff_hz=4_000.0))
    assert not torch.allclose(changing.tokens, constant.tokens, atol=1e-3)
    # What lies above a piece's cutoff is not read: with it or without, the context is the same but
    # for what the filters do at the recording's end.
    low = filter_whole(whole, lowpass_kernel(3_600, 3_800, 48_000))
    ramp = ((torch.arange(288_000) - 144_000) / 960 + 0.5).clamp(0, 1)
    other = write(tmp_path / "b.wav", (1 - ramp) * whole + ramp * low)
    told = Options(cutoff_hz=((0.0, 23_000.0), (3.0, 3_300.0)))
    with_it, without = (engine.context_of(p, told).tokens for p in (path, other))
    wide = engine.context_of(path, Options(cutoff_hz=23_000.0)).tokens
    assert (with_it - without).abs().mean() < 0.1 * (with_it - wide).abs().mean()


def test_a_context_that_is_given_takes_the_place_of_the_recordings_own(engine, tmp_path):
    a = write(tmp_path / "a.wav", band_limited(3.0, 5_000.0, seed=1))
    b = write(tmp_path / "b.wav", 0.1 * band_limited(3.0, 5_000.0, seed=2))
    options = Options(seed=1, steps=2, cutoff_hz=5_000.0)
    outputs = []
    for place, context in enumerate((None, engine.context_of(a), engine.context_of(b))):
        out = tmp_path / str(place)
        list(engine.stream(a, out, options, context=context))
        outputs.append(read_audio(out / "a.wav"))
    assert not torch.equal(outputs[0], outputs[2])
    own = tmp_path / "own"
    list(engine.stream(a, own, options, context=engine.context_of(a, options)))
    assert torch.equal(read_audio(own / "a.wav"), outputs[0])


def test_a_change_is_found_and_each_piece_keeps_its_own_band(engine, tmp_path):
    """Null depth of 60 dB below 0.9 x each piece's own cutoff, nobody having told the pieces."""
    parts = [band_limited(10.0, hz, seed=int(hz)) for hz in (4_000.0, 12_000.0, 6_000.0)]
    recording = torch.cat(parts, dim=1)
    path = write(tmp_path / "a.wav", recording)
    result = engine.run_inference(path, tmp_path / "o", seed=3, steps=1)
    assert result.diagnosis.kind == "changing"
    found = result.diagnosis.segments
    assert [hz for _, hz in found] == pytest.approx([4_000, 12_000, 6_000], rel=0.05)
    assert [start for start, _ in found] == pytest.approx([0, 10, 20], abs=0.5)
    assert result.cutoff_hz == min(hz for _, hz in found)
    difference = read_audio(result.output) - recording
    edges = [*(start for start, _ in found), 30.0]
    for (start, hz), stop in zip(found, edges[1:], strict=True):
        inner = slice(round((start + 0.1) * 48_000), round((stop - 0.1) * 48_000))
        below = lowpass_kernel(0.8 * hz, 0.9 * hz, 48_000)
        changed, kept = (filter_whole(x[:, inner], below) for x in (difference, recording))
        # The filter's own ends see what lies above the cutoff.
        assert decibels(changed[:, 4_800:-4_800]) < decibels(kept) - 60
        above = highpass_kernel(1.05 * hz, 1.15 * hz, 48_000)
        added = filter_whole(difference[:, inner], above)
        assert decibels(added) > -80


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    gain_db=st.floats(-60, 0),
    offset=st.floats(-0.3, 0.3),
    cutoff_hz=st.floats(2_000, 12_000),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_level_offset_and_band_are_kept_whatever_they_are(
    engine, tmp_path_factory, gain_db, offset, cutoff_hz, channels, seed
):
    folder = tmp_path_factory.mktemp("level")
    recording = band_limited(1.5, cutoff_hz, channels, seed) * 10 ** (gain_db / 20) + offset
    output = run(engine, write(folder / "a.wav", recording), folder / "o", steps=1)
    assert output.shape == recording.shape
    result_hz = analyze(folder / "a.wav", 48_000, engine.completed(Options())).cutoff_hz
    assert result_hz == pytest.approx(cutoff_hz, rel=0.06)
    assert torch.allclose(output.mean(dim=1), recording.mean(dim=1), atol=1e-4)
    below = lowpass_kernel(0.8 * result_hz, 0.9 * result_hz, 48_000)
    kept, changed = (
        filter_whole(x, below)[:, 2_000:-2_000] for x in (recording - offset, output - recording)
    )
    # What 24 bits cannot tell apart is no difference.
    assert decibels(changed) < max(decibels(kept) - 60, -135)


def test_what_is_written_while_it_runs_is_the_beginning_of_the_output(engine, tmp_path):
    recording = write(tmp_path / "a.wav", band_limited(12.0, 4_000.0))
    seconds, blocks = [], []
    for event in engine.stream(recording, tmp_path / "out", Options(steps=1, seed=1)):
        if isinstance(event, Written):
            assert event.files[0].stat().st_size > 3 * sum(b.shape[1] for b in blocks)
            seconds.append(event.seconds)
            blocks.append(event.blocks[0])
    written = torch.cat(blocks, dim=1).numpy()
    output = soundfile.read(event.result.output, dtype="float32", always_2d=True)[0].T
    assert seconds == sorted(seconds)
    assert written.shape[1] == round(seconds[-1] * 48_000) <= output.shape[1]
    assert np.array_equal(written, output[:, : written.shape[1]])


def test_tags_that_cannot_be_read_do_not_cost_the_recording(engine, tmp_path, monkeypatch):
    def refuse(path):
        raise InputError(f"{path.name} makes its decoder fail.")

    monkeypatch.setattr("lily.inference.reading.read_tags", refuse)
    path = write(tmp_path / "a.wav", band_limited(1.0, 4_000.0))
    result = engine.run_inference(path, tmp_path / "out", seed=0, steps=1)
    assert result.samples == 48_000 and result.complete
    assert result.diagnosis.repairs == ("Its tags cannot be read and are not kept.",)
