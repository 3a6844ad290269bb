"""A fake engine for the page: the real events, in the real order, and a WAV made from a seed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile

from lily.errors import InputError, Stopped
from lily.inference.events import (
    Analyzed,
    ChunksDone,
    Compared,
    ComparisonResult,
    ContextRead,
    Finished,
    Planned,
    Reading,
    Sampling,
    UpsampleResult,
)
from lily.inference.options import UpsampleOptions
from lily.ui.shelf import EngineShelf

BOUNDS = {
    "steps": {"default": 4, "min": 1, "max": 40},
    "guidance": {"default": 1.5, "min": 1.0, "max": 5.0},
    "samplers": ["dpmpp2m", "ddim"],
    "sampler": "dpmpp2m",
    "seed_max": 1000,
}
OTHER_BOUNDS = BOUNDS | {"steps": {"default": 50, "min": 10, "max": 200}, "sampler": "ddim"}
CHUNK_SECONDS, HOP_SECONDS = 5.12, 4.48


@dataclass
class FakeEngine:
    """Yields what an engine yields; ``pause`` seconds before each step of ``batch`` chunks."""

    name: str = "fake"
    pause: float = 0.0
    batch: int = 2
    asked: list[UpsampleOptions] = field(default_factory=list)
    closed: int = 0

    def stream(self, audio_path, output_dir, options, *, stop):
        """Measure, read, plan, sample and finish; a file that is no audio is an InputError."""
        self.asked.append(options)
        path, folder = Path(audio_path), Path(output_dir)
        try:
            samples, rate = soundfile.read(path, always_2d=True, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path.name} is not audio; give a WAV, FLAC or MP3 file.") from error
        try:
            done = yield from self._events(path, options, samples, rate, 1, stop)
            yield Finished(self._write(path, folder, samples, rate, options, *done))
        finally:
            self.closed += 1

    def compare(self, audio_path, output_dir, options, stems, *, stop):
        """The same for two takes; a full-band recording is an InputError."""
        self.asked.append(options)
        path, folder = Path(audio_path), Path(output_dir)
        samples, rate = soundfile.read(path, always_2d=True, dtype="float32")
        if rate >= 48_000:
            raise InputError(f"There is nothing to compare. {path.name} is full band already.")
        try:
            done = yield from self._events(path, options, samples, rate, 2, stop)
            takes = [
                self._write(
                    path, folder, samples, rate, replace(options, encoder=on), *done, f".{name}"
                )
                for name, on in (("off", False), ("on", True))
            ]
            more = [
                self._write(path, folder, samples, rate, options, *done, f".{name}").output
                for name in ("diff", "input", "low")
            ]
            yield Compared(ComparisonResult(*takes, more[0], done[0][: done[1]], *more[1:]))
        finally:
            self.closed += 1

    def _events(self, path, options, samples, rate, variants, stop):
        """Yields a run's events; returns its plan, how much of it is done, and the settings."""
        seconds, full = len(samples) / rate, rate >= 48_000
        cutoff = options.cutoff_hz or rate / 2
        yield Reading(seconds)
        yield Analyzed(path.name, rate, samples.shape[1], seconds, cutoff, full)
        plan = []
        steps = options.steps or BOUNDS["steps"]["default"]
        seed = 7 if options.seed is None else options.seed
        if not full:
            if options.encoder:
                for done in (0.5, 1.0):
                    time.sleep(self.pause)
                    yield ContextRead(done)
            count = 1 + max(0, int(np.ceil((seconds - CHUNK_SECONDS) / HOP_SECONDS)))
            plan = [(i * HOP_SECONDS, i * HOP_SECONDS + CHUNK_SECONDS) for i in range(count)]
            yield Planned(tuple(plan), steps, "dpmpp2m", 1.5, seed, options.encoder)
        done = 0
        for first in range(0, len(plan), self.batch):
            busy = tuple(range(first, min(first + self.batch, len(plan))))
            for variant in range(variants):
                for step in range(1, steps + 1):
                    time.sleep(self.pause)
                    yield Sampling(busy, step, steps, variant)
                    if stop.is_set():
                        break
                if stop.is_set():
                    break
                if variant == variants - 1:
                    done = busy[-1] + 1
                yield ChunksDone(busy, busy[-1] + 1, len(plan), variant)
            if stop.is_set():
                break
        if stop.is_set() and not done:
            raise Stopped("Nothing was finished.")
        return tuple(plan), done, seed, steps, cutoff

    def _write(
        self, path, folder, samples, rate, options, plan, done, seed, steps, cutoff, ending=""
    ):
        folder.mkdir(parents=True, exist_ok=True)
        length = -(-len(samples) * 48_000 // rate)
        if done < len(plan):
            length = round(plan[done][0] * 48_000)
        noise = np.random.default_rng(seed).normal(0, 0.02, (length, samples.shape[1]))
        output = folder / f"{path.stem}{ending}.wav"
        soundfile.write(output, noise, 48_000, subtype="PCM_24")
        message = "" if plan else f"{path.name} is full band already and was not changed."
        return UpsampleResult(
            output=output,
            sample_rate=48_000,
            channels=samples.shape[1],
            samples=length,
            cutoff_hz=cutoff,
            chunks=done,
            seed=seed,
            steps=steps,
            sampler="dpmpp2m",
            guidance=1.5,
            encoder=options.encoder,
            model=self.name,
            seconds=len(samples) / rate,
            compute_seconds=0.5,
            input_sample_rate=rate,
            subtype="PCM_24",
            message=message if done == len(plan) else f"Stopped early: {done} chunks are here.",
            complete=done == len(plan),
        )


def write_recording(
    path: Path, sample_rate: int, channels: int, seconds: float, cutoff_hz: float = np.inf
) -> Path:
    """A chord with noise, from a seed, as 16-bit WAV; nothing of it lies above ``cutoff_hz``."""
    generator = np.random.default_rng(sample_rate + channels)
    time_axis = np.arange(round(seconds * sample_rate)) / sample_rate
    tones = sum(
        np.sin(2 * np.pi * f * time_axis * (1 + 0.001 * np.sin(time_axis))) / f
        for f in (220, 277, 330, 880, 1760, 3300)
    )
    signal = 60 * tones[:, None] * np.ones((1, channels))
    signal = signal + generator.normal(0, 0.02, signal.shape)
    spectrum = np.fft.rfft(signal, axis=0)
    spectrum[np.fft.rfftfreq(len(signal), 1 / sample_rate) > cutoff_hz] = 0
    signal = np.fft.irfft(spectrum, len(signal), axis=0)
    soundfile.write(path, np.clip(signal, -1, 1), sample_rate, subtype="PCM_16")
    return path


def fake_shelf(engine: FakeEngine) -> EngineShelf:
    """Two presets, both served by one fake engine."""
    configs = {"small": {"inference": BOUNDS}, "large": {"inference": OTHER_BOUNDS}}
    return EngineShelf(configs, lambda _config: engine)
