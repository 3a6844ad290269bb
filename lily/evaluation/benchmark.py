"""Measure a model on this machine: seconds by stage, real-time factor, evaluations, peak memory.

What is measured is the engine itself on a recording made from a seed; hooks on the networks tell
the stages apart, so nothing runs that a user's run would not. Ratios (encoder on against off) come
from rounds that alternate in one process, as medians: a shared machine changes its speed by the
minute.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lily.audio.read import AudioWriter
from lily.dsp.filters import StreamingFir, lowpass_kernel
from lily.errors import InputError
from lily.evaluation.machine import machine, peak_memory, versions
from lily.evaluation.settings import BenchSettings
from lily.inference.engine import InferenceEngine
from lily.inference.events import Analyzed, Finished, Planned, UpsampleResult
from lily.inference.options import UpsampleOptions

CUTOFF_HZ = 8_000.0  # where the recording ends: a usual case, and every preset fills it in
SAMPLE_RATE = 48_000
SEED = 0
MEBIBYTE = 2**20
Row = tuple[str, dict[str, Any]]  # (what was measured, its figures)
# Stages without a network. A network is a module with weights: the global encoder, the U-Net with
# its keys and values of the context, the autoencoder and the vocoder. What prepares their inputs
# (log-mel, carriers, noise) is outside, though it may run beside them in a thread of its own.
OUTSIDE = ("measure", "read", "rest")
PASSING = ("round", "growth_run")  # rows that a later one sums up


def bench(
    engine: InferenceEngine, options: UpsampleOptions, settings: BenchSettings
) -> Iterator[Row]:
    """Run the rounds; yields rows of JSON-able figures as soon as they are measured.

    They are ``setup``, a ``round`` for each, ``rounds``, ``encoder``, a ``growth_run`` for each
    duration, ``growth`` and ``memory``. Raises InputError for settings of no use.
    """
    settings.check()
    chosen = engine.completed(replace(options, encoder=False, seed=options.seed or SEED))
    has_encoder = engine.model.unet.global_encoder is not None
    yield "setup", setup(engine, chosen, settings)
    with tempfile.TemporaryDirectory(prefix="lily-bench-") as name:
        folder = Path(name)
        recording = write_recording(folder / "noise.wav", settings.seconds, settings.channels)
        one(engine, recording, folder, chosen)  # what only the first run pays is no round's
        runs: dict[str, list[dict[str, Any]]] = {"on": [], "off": []}
        for number in range(1, settings.rounds + 1):
            for encoder in ("off", "on") if has_encoder else ("off",):
                asked = replace(chosen, encoder=encoder == "on")
                taken = one(engine, recording, folder, asked)
                runs[encoder].append(taken)
                seconds = round(taken["seconds"], 3)
                yield "round", {"round": number, "encoder": encoder, "seconds": seconds}
        yield "rounds", {encoder: middle(rows) for encoder, rows in runs.items() if rows}
        if has_encoder:
            yield "encoder", encoder_costs(engine, runs["on"], runs["off"])
        yield from growth(engine, folder, replace(chosen, encoder=has_encoder), settings)
    yield "memory", memory(engine)


def report(rows: Iterable[Row]) -> dict[str, Any]:
    """All rows as one JSON-able object; single rounds are left out."""
    facts: dict[str, Any] = {}
    for name, values in rows:
        if name in ("setup", "memory"):
            facts |= values
        elif name not in PASSING:
            facts[name] = values
    return facts


def setup(
    engine: InferenceEngine, chosen: UpsampleOptions, settings: BenchSettings
) -> dict[str, Any]:
    """What is measured, and on what."""
    return {
        "machine": machine(engine.device),
        "versions": versions(),
        "model": engine.name,
        "device": str(engine.device),
        "precision": str(engine.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "steps": chosen.steps,
        "sampler": chosen.sampler,
        "guidance": chosen.guidance,
        "audio": {"seconds": settings.seconds, "channels": settings.channels},
    }


def memory(engine: InferenceEngine) -> dict[str, Any]:
    """The predicted size of the tensors and the measured peak, in MiB; None if there is none."""
    sizes = {"predicted_mib": engine.runtime.memory, "peak_memory_mib": peak_memory(engine.device)}
    return {name: None if size is None else size // MEBIBYTE for name, size in sizes.items()}


def one(
    engine: InferenceEngine, recording: Path, folder: Path, options: UpsampleOptions
) -> dict[str, Any]:
    """One run of the engine: its seconds, in all and by stage, and the U-Net's evaluations.

    ``cpu_seconds`` are those of all threads of this process, without the decoder's.
    """
    clock = StageClock(engine)
    began, cpu_began, at = time.perf_counter(), time.process_time(), {}
    with clock.watching(), tempfile.TemporaryDirectory(dir=folder) as output:
        for event in engine.stream(recording, output, options):
            if isinstance(event, Analyzed | Planned):
                at[type(event)] = time.perf_counter() - began
            elif isinstance(event, Finished):
                result = event.result
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    if Planned not in at:
        raise InputError("The recording was left as it is: there is nothing to measure.")
    stages = {"measure": at[Analyzed], "read": at[Planned] - at[Analyzed], **clock.seconds}
    stages["read"] -= clock.seconds["encoder"]  # which reads the recording meanwhile
    stages["rest"] = seconds - sum(stages.values())  # low-pass, log-mel, blend, splice, write
    taken = {"seconds": seconds, "cpu_seconds": cpu_seconds, "stages": stages}
    return {"result": result, **taken, **clock.counted()}


class StageClock:
    """Seconds inside each network, and how many rows the U-Net evaluated."""

    def __init__(
        self, engine: InferenceEngine, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        first = engine.model.first_stage_model
        self.parts: dict[str, nn.Module] = {
            "vae_encode": first.encoder,
            "unet": engine.model.unet,
            "vae_decode": first.decoder,
            "vocoder": first.vocoder,
        }
        unet = engine.model.unet
        # What a recording's context takes is not a call of a module.
        self.methods: list[tuple[nn.Module, str]] = [(unet, "context_cache")]
        if unet.global_encoder is not None:
            encoder = unet.global_encoder
            self.methods += [(encoder, "features"), (encoder, "contextualise")]
        self.device, self.clock = engine.device, clock
        self.seconds = dict.fromkeys(("encoder", *self.parts), 0.0)
        self._began = 0.0
        self._calls, self._rows = 0, 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to the networks for as long as the block runs."""
        hooks = []
        for name, part in self.parts.items():
            hooks.append(part.register_forward_pre_hook(self._before))
            hooks.append(part.register_forward_hook(self._after(name)))
        for part, name in self.methods:
            setattr(part, name, self._timed(getattr(part, name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for part, name in self.methods:
                delattr(part, name)  # the class's own is left

    def counted(self) -> dict[str, int]:
        """How often the U-Net was called, and for how many rows in all."""
        return {"evaluations": self._calls, "evaluated_rows": self._rows}

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = self._now()
            made = method(*arguments)
            self.seconds["encoder"] += self._now() - began
            return made

        return call

    def _before(self, _module: nn.Module, _inputs: object) -> None:
        self._began = self._now()

    def _after(self, name: str) -> Any:
        def stop(_module: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
            self.seconds[name] += self._now() - self._began
            if name == "unet":
                self._calls += 1
                self._rows += inputs[0].shape[0]

        return stop

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return self.clock()


def middle(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of a kind's rounds; counts are the same in every round."""
    result: UpsampleResult = rows[0]["result"]
    seconds = statistics.median(row["seconds"] for row in rows)
    stages = {
        name: statistics.median(row["stages"][name] for row in rows) for name in rows[0]["stages"]
    }
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(statistics.median(row["cpu_seconds"] for row in rows), 3),
        "fastest": round(min(row["seconds"] for row in rows), 3),
        "real_time_factor": round(seconds / result.seconds, 4),
        "chunks": result.chunks,
        "evaluations": rows[0]["evaluations"],
        "evaluated_rows": rows[0]["evaluated_rows"],
        "stages": {name: round(value, 4) for name, value in stages.items()},
        "shares": {name: round(value / seconds, 4) for name, value in stages.items()},
        "outside_networks": round(sum(stages[name] for name in OUTSIDE) / seconds, 4),
    }


def encoder_costs(
    engine: InferenceEngine, on: Sequence[dict[str, Any]], off: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the encoder adds to a whole run, by the clock and in CPU time, from pairs of rounds."""
    by_clock, by_cpu = (
        [round(a[kind] / b[kind] - 1, 4) for a, b in zip(on, off, strict=True)]
        for kind in ("seconds", "cpu_seconds")
    )
    return {
        "time_overhead": round(statistics.median(by_clock), 4),
        "cpu_overhead": round(statistics.median(by_cpu), 4),
        "rounds": by_clock,
        "cpu_rounds": by_cpu,
        "trained": engine.model.encoder_is_trained,
    }


def growth(
    engine: InferenceEngine, folder: Path, options: UpsampleOptions, settings: BenchSettings
) -> Iterator[Row]:
    """Runs of growing duration in seconds, and the exponents of the power laws through them.

    ``exponent`` is of the clock, ``cpu_exponent`` of CPU time, which other work on the machine
    disturbs less. Each run has the peak memory so far: where that does not rise, memory does not
    grow with duration.
    """
    rows: list[dict[str, Any]] = []
    for seconds in settings.growth:
        recording = write_recording(folder / f"{seconds:g}.wav", seconds, settings.channels)
        taken = one(engine, recording, folder, options)
        recording.unlink()
        rows.append(
            {
                "seconds": seconds,
                "compute_seconds": round(taken["seconds"], 2),
                "cpu_seconds": round(taken["cpu_seconds"], 2),
                "peak_memory_mib": memory(engine)["peak_memory_mib"],  # so far, in this process
            }
        )
        yield "growth_run", rows[-1]
    if rows:
        durations = [math.log(row["seconds"]) for row in rows]
        exponents = {
            name: round(slope(durations, [math.log(max(row[kind], 1e-3)) for row in rows]), 4)
            for name, kind in (("exponent", "compute_seconds"), ("cpu_exponent", "cpu_seconds"))
        }
        yield "growth", {"runs": rows, **exponents}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the least-squares line.

    >>> slope([0, 1, 2], [1, 3, 5])
    2.0
    """
    return statistics.linear_regression(x, y).slope


def start_to_finish(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds of a process of its own for 5 s of audio: from its start to the finished file.

    ``arguments`` are those of ``lily upsample`` that choose the model. All of the output is there
    by then, so its first sample came no later. Raises InputError if the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="lily-bench-") as name:
        recording = write_recording(Path(name) / "noise.wav", 5.0, 1)
        command = [sys.executable, "-m", "lily", "upsample", str(recording), "-o", f"{name}/out"]
        began = time.perf_counter()
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
    if run.returncode:
        raise InputError(f"The run in a process of its own failed: {run.stderr.strip()[-300:]}")
    return {"audio_seconds": 5.0, "seconds": round(seconds, 3)}


def write_recording(path: Path, seconds: float, channels: int) -> Path:
    """Write noise that ends at 8 kHz, drawn from a seed block by block; any length."""
    generator = torch.Generator().manual_seed(SEED)
    fir = StreamingFir(lowpass_kernel(0.97 * CUTOFF_HZ, 1.03 * CUTOFF_HZ, SAMPLE_RATE))
    left = round(seconds * SAMPLE_RATE)
    with AudioWriter(path, SAMPLE_RATE, channels, frames=left) as writer:
        while left > 0:
            count = min(left, 10 * SAMPLE_RATE)
            noise = torch.randn(channels, count, generator=generator) * 0.1
            writer.write(fir.push(noise))
            left -= count
        writer.write(fir.flush())
    return path
