"""Degrade, fill in, compare: every recording of a folder in every case, beside the baselines.

Encoder on and off get the same noise. The controls keep "on" honest: the context of another
recording of the same kind that was degraded the same way, the right context with its tokens
shuffled in time, and its vector alone. A baseline's tilt is fitted on the other half of the
recordings, never on what it is judged on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from lily.audio.read import AudioWriter, read_audio
from lily.evaluation.baselines import BASELINES, Carrier, Tilt, continued, fit_tilt
from lily.evaluation.cases import Case, Degraded, degrade_for
from lily.evaluation.metrics import (
    SAMPLE_RATE,
    distances,
    log_power,
    power_spectrum,
    spectral_distance,
)
from lily.inference.engine import InferenceEngine
from lily.inference.events import Finished, UpsampleOptions
from lily.model.global_encoder import GlobalContext

CONTROLS = ("wrong", "shuffled", "vector")
SYSTEMS = ("input", *BASELINES, "off", "on", *CONTROLS)


@dataclass(frozen=True)
class Settings:
    """What is measured, besides the recordings."""

    cases: tuple[Case, ...]
    seconds: float = 30.0  # of each recording, from its start
    seeds: int = 1  # draws of the model, averaged
    first_seed: int = 0
    steps: int | None = None
    encoder: tuple[bool, ...] = (False, True)
    controls: tuple[str, ...] = ()  # names of the cases in which the controls are run


@dataclass(frozen=True)
class Row:
    """One recording in one case, through one system: means over seeds."""

    name: str
    kind: str
    seconds: float
    case: str
    system: str
    cutoff_hz: float
    figures: dict[str, float | None]


@dataclass(frozen=True)
class _Item:
    path: Path
    kind: str
    source: str
    reference: Tensor


def evaluate(
    engine: InferenceEngine,
    files: Sequence[tuple[Path, str, str]],
    settings: Settings,
) -> Iterator[Row]:
    """Measure every file, given as (path, kind, source), in every case; at least two files."""
    items = [_Item(p, k, s, _excerpt(p, settings.seconds)) for p, k, s in files]
    with tempfile.TemporaryDirectory() as folder:
        for case in settings.cases:
            yield from _Run(engine, items, settings, case, Path(folder)).rows()


class _Run:
    """One case over all recordings."""

    def __init__(
        self,
        engine: InferenceEngine,
        items: Sequence[_Item],
        settings: Settings,
        case: Case,
        folder: Path,
    ) -> None:
        self.engine, self.items, self.settings, self.case = engine, items, settings, case
        self.folder = folder
        self.contexts: dict[int, GlobalContext] = {}
        self.tilts: dict[tuple[int, Carrier], Tilt] = {}

    def rows(self) -> Iterator[Row]:
        """Every recording through every system."""
        for index, item in enumerate(self.items):
            degraded = degrade_for(self.case, item.reference, index)
            yield self._row(item, degraded, "input", [degraded.samples])
            for carrier in BASELINES:
                made = continued(
                    degraded.samples,
                    degraded.cutoff_hz,
                    self._tilt(index % 2, carrier, degraded.cutoff_hz),
                    carrier,
                    self.settings.first_seed,
                )
                yield self._row(item, degraded, carrier, [made])
            path = self._written(index, degraded)
            for encoder in self.settings.encoder:
                drawn, speed = self._drawn(path, degraded, encoder, None)
                system = "on" if encoder else "off"
                yield self._row(item, degraded, system, drawn, speed)
            if self.case.name in self.settings.controls:
                for control in CONTROLS:
                    context = self._control(index, control)
                    drawn, speed = self._drawn(path, degraded, True, context)
                    yield self._row(item, degraded, control, drawn, speed)

    def _tilt(self, half: int, carrier: Carrier, cutoff_hz: float) -> Tilt:
        if (half, carrier) not in self.tilts:
            others = [item.reference for item in self.items[1 - half :: 2]]
            self.tilts[half, carrier] = fit_tilt(others, cutoff_hz, carrier)
        return self.tilts[half, carrier]

    def _written(self, index: int, degraded: Degraded) -> Path:
        path = self.folder / f"{self.case.name}-{index}.wav"
        if not path.exists():
            with AudioWriter(path, SAMPLE_RATE, degraded.samples.shape[0]) as writer:
                writer.write(degraded.samples)
        return path

    def _drawn(
        self, path: Path, degraded: Degraded, encoder: bool, context: GlobalContext | None
    ) -> tuple[list[Tensor], float]:
        """One output per seed, and the mean real-time factor."""
        outputs, speeds = [], []
        for seed in range(self.settings.seeds):
            options = UpsampleOptions(
                encoder=encoder,
                steps=self.settings.steps,
                seed=self.settings.first_seed + seed,
                cutoff_hz=degraded.told,
            )
            with tempfile.TemporaryDirectory(dir=self.folder) as out:
                for event in self.engine.stream(path, out, options, context=context):
                    if isinstance(event, Finished):
                        outputs.append(read_audio(event.result.output))
                        speeds.append(event.result.real_time_factor)
        return outputs, fmean(speeds)

    def _control(self, index: int, control: str) -> GlobalContext:
        """What the encoder is told instead of the truth."""
        if control == "wrong":
            return self._context(self._stranger(index))
        context = self._context(index)
        if control == "vector":
            nothing = context.tokens[:, :0]
            return replace(context, tokens=nothing, times=context.times[:, :0], valid=None)
        generator = torch.Generator().manual_seed(index)
        order = torch.randperm(context.tokens.shape[1], generator=generator)
        return replace(context, tokens=context.tokens[:, order])

    def _context(self, index: int) -> GlobalContext:
        if index not in self.contexts:
            degraded = degrade_for(self.case, self.items[index].reference, index)
            path = self._written(index, degraded)
            options = UpsampleOptions(cutoff_hz=degraded.told)
            self.contexts[index] = self.engine.context_of(path, options)
        return self.contexts[index]

    def _stranger(self, index: int) -> int:
        """The next recording of the same kind and another source, degraded the same way."""
        here, count = self.items[index], len(self.items)
        order = [(index + step) % count for step in range(2, 2 * count, 2)]
        order += [(index + step) % count for step in range(1, count)]
        others = [i for i in order if i != index and self.items[i].source != here.source]
        alike = [i for i in others if self.items[i].kind == here.kind]
        return (alike or others or [i for i in order if i != index])[0]

    def _row(
        self,
        item: _Item,
        degraded: Degraded,
        system: str,
        outputs: Sequence[Tensor],
        speed: float | None = None,
    ) -> Row:
        reference = item.reference[:, degraded.judged]
        made = [output[:, degraded.judged] for output in outputs]
        found = [asdict(distances(reference, m, degraded.cutoff_hz)) for m in made]
        figures = {key: _mean([f[key] for f in found]) for key in found[0]}
        if len(made) > 1:  # what a draw costs: the average of several is nearer than each
            average = torch.stack([log_power(power_spectrum(m)) for m in made]).mean(0)
            nearer = spectral_distance(power_spectrum(reference), average, degraded.cutoff_hz)
            figures["averaged_lsd_hf"] = nearer["lsd_hf"]
        figures["real_time_factor"] = speed
        return Row(
            item.path.name,
            item.kind,
            reference.shape[-1] / SAMPLE_RATE,
            self.case.name,
            system,
            degraded.cutoff_hz,
            figures,
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def _excerpt(path: Path, seconds: float) -> Tensor:
    return read_audio(path, SAMPLE_RATE)[:, : round(seconds * SAMPLE_RATE)]
