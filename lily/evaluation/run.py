"""Degrade, generate, measure: every recording of a folder in every case, beside the baselines.

Encoder on and off get the same noise. Four controls give the encoder a wrong context: that of
another recording of the same kind, degraded the same way; the right one with its tokens shuffled in
time; no tokens at all; its lows paired with each other's highs. Two controls know the reference's
envelope. A baseline's tilt is fitted on the other half of the recordings, never on those it is
measured on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonprefix
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.errors import InputError
from lily.evaluation.baselines import BASELINES, Carrier, Tilt, continued, fit_tilt
from lily.evaluation.cases import Degraded, degrade_for
from lily.evaluation.envelope_controls import ENVELOPE_CONTROLS, envelope_control
from lily.evaluation.informed import INFORMED, true_settings
from lily.evaluation.judges import opinion
from lily.evaluation.measures import measure
from lily.evaluation.metrics import SAMPLE_RATE, distances, log_power, spectral_distance
from lily.evaluation.realism import Pair, patches
from lily.evaluation.settings import Case, Settings
from lily.evaluation.spectra import Spectra
from lily.evaluation.tones import harmonic_tones
from lily.inference.engine import InferenceEngine
from lily.inference.events import Finished
from lily.inference.options import UpsampleOptions
from lily.model.global_encoder import GlobalContext

CONTROLS = ("wrong", "shuffled", "vector", "mismatched")
SYSTEMS = ("reference", "input", *BASELINES, *ENVELOPE_CONTROLS, "off", "on", *CONTROLS, *INFORMED)
JUDGED_FOR_REALISM = ("oracle", "off", "on")  # what the classifier is trained to tell apart


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
    collection: str = ""
    pair: Pair | None = field(default=None, repr=False)  # patches for the classifier


@dataclass(frozen=True)
class _Item:
    kind: str
    source: str
    reference: Tensor
    name: str
    path: Path | None = None  # of the whole recording; None for a synthetic one


def evaluate(
    engine: InferenceEngine,
    files: Sequence[tuple[Path, str, str]],
    settings: Settings,
    borrowable: Sequence[tuple[Path, str, str]] = (),
) -> Iterator[Row]:
    """Measure every file, given as (path, kind, source), in every case; at least two files.

    The files of ``borrowable``, of which ``files`` may be a part, are those that may be borrowed;
    without it ``files`` are. Raises InputError for a judge that is not installed.
    """
    settings.check()
    items = [_Item(k, s, _excerpt(p, settings.seconds), p.name, p) for p, k, s in files]
    tones = [_Item("tones", "tones", samples, name) for name, samples in harmonic_tones()]
    whole: dict[str, list[Path]] = {}
    for path, _, source in borrowable or files:
        whole.setdefault(source, []).append(path)
    with tempfile.TemporaryDirectory() as folder:
        for case in settings.cases:
            chosen = tones if case.kind == "tones" else items
            yield from _Run(engine, chosen, settings, case, Path(folder), whole).rows()


class _Run:
    """One case over all recordings."""

    def __init__(
        self,
        engine: InferenceEngine,
        items: Sequence[_Item],
        settings: Settings,
        case: Case,
        folder: Path,
        whole: Mapping[str, Sequence[Path]],
    ) -> None:
        """``whole`` are the recordings that may be borrowed, by source."""
        self.engine, self.items, self.settings, self.case = engine, items, settings, case
        self.folder, self.whole = folder, whole
        self.contexts: dict[int, GlobalContext] = {}
        self.tilts: dict[tuple[int, Carrier], Tilt] = {}

    def rows(self) -> Iterator[Row]:
        """Every recording through every system."""
        for index, item in enumerate(self.items):
            degraded = degrade_for(self.case, item.reference, index)
            truth = Spectra(item.reference[:, degraded.judged])
            for system, outputs, speed in self._outputs(index, degraded):
                yield self._row(item, truth, degraded, system, outputs, speed)

    def _outputs(
        self, index: int, degraded: Degraded
    ) -> Iterator[tuple[str, list[Tensor], float | None]]:
        """Each system: its name, its outputs (one a seed), its real-time factor if it has one."""
        reference = self.items[index].reference
        low, cutoff_hz = degraded.samples, degraded.cutoff_hz
        seed = self.settings.first_seed
        yield "reference", [reference], None
        yield "input", [low], None
        for carrier in BASELINES:
            tilt = self._tilt(index % 2, carrier, cutoff_hz)
            yield carrier, [continued(low, cutoff_hz, tilt, carrier, seed)], None
        for name in ENVELOPE_CONTROLS:
            yield name, [envelope_control(name, reference, low, cutoff_hz, seed)], None
        path = self._written(index, degraded)
        for encoder in self.settings.encoder:
            yield "on" if encoder else "off", *self._drawn(path, degraded, encoder)
        if self.case.name in self.settings.controls:
            for control in CONTROLS:
                context = self._control(index, control)
                yield control, *self._drawn(path, degraded, True, context)
        if self.case.name in self.settings.informed:
            for system in INFORMED:
                if made := self._informed(index, degraded, path, system):
                    yield system, *made

    def _tilt(self, half: int, carrier: Carrier, cutoff_hz: float) -> Tilt:
        if (half, carrier) not in self.tilts:
            others = [item.reference for item in self.items[1 - half :: 2]]
            self.tilts[half, carrier] = fit_tilt(others, cutoff_hz, carrier)
        return self.tilts[half, carrier]

    def _written(self, index: int, degraded: Degraded) -> Path:
        path = self.folder / f"{self.case.name}-{index}.wav"
        if not path.exists():
            write_audio(path, degraded.samples, SAMPLE_RATE)
        return path

    def _drawn(
        self,
        path: Path,
        degraded: Degraded,
        encoder: bool,
        context: GlobalContext | None = None,
        **given: Any,
    ) -> tuple[list[Tensor], float]:
        """One output per seed, and the mean real-time factor."""
        outputs, speeds = [], []
        for seed in range(self.settings.seeds):
            options = UpsampleOptions(
                encoder=encoder,
                steps=self.settings.steps,
                seed=self.settings.first_seed + seed,
                cutoff_hz=degraded.cutoffs,
                **given,
            )
            with tempfile.TemporaryDirectory(dir=self.folder) as out:
                for event in self.engine.stream(path, out, options, context=context):
                    if isinstance(event, Finished):
                        outputs.append(read_audio(event.result.output))
                        speeds.append(event.result.real_time_factor)
        return outputs, fmean(speeds)

    def _control(self, index: int, control: str) -> GlobalContext:
        """The knowledge given to the encoder instead of the true one."""
        if control == "wrong":
            return self._context(self._stranger(index))
        context = self._context(index)
        if control == "mismatched":
            return self._mismatched(context, index)
        if control == "vector":
            nothing = context.tokens[:, :0]
            return replace(context, tokens=nothing, times=context.times[:, :0], valid=None)
        generator = torch.Generator().manual_seed(index)
        order = torch.randperm(context.tokens.shape[1], generator=generator)
        return replace(context, tokens=context.tokens[:, order])

    def _mismatched(self, context: GlobalContext, index: int) -> GlobalContext:
        """A context whose pairs have each other's highs; as it is, where it has none."""
        if context.pairs is None:
            return context
        degraded = degrade_for(self.case, self.items[index].reference, index)
        generator = torch.Generator().manual_seed(index)
        pairs = context.pairs.mismatched(degraded.cutoff_hz, generator)
        return replace(context, pairs=pairs)

    def _informed(
        self, index: int, degraded: Degraded, path: Path, system: str
    ) -> tuple[list[Tensor], float] | None:
        """As ``_drawn``, with what is known of the original; None where nothing is."""
        if system == "set":
            blind = self._drawn(path, degraded, True)[0][0]
            reference = self.items[index].reference
            heard = (samples[:, degraded.judged] for samples in (reference, blind))
            given = true_settings(*heard, degraded.cutoff_hz, self.engine.mel)
            return self._drawn(path, degraded, True, **given) if given else None
        for lender in self._lenders(index, system):
            try:
                return self._drawn(path, degraded, True, context_files=(lender,))
            except InputError:  # silent, a few tones, or as narrow as the recording
                continue
        return None

    def _lenders(self, index: int, system: str) -> list[Path]:
        """The files that a recording may borrow from, the best first."""
        path, source = self.items[index].path, self.items[index].source
        if path is None or not self.engine.settings.pair_memory:
            return []  # borrowed recordings act through their pairs
        if system == "stranger":
            stranger = self.items[self._stranger(index)].path
            return [stranger] if stranger else []
        return by_name(path, [p for p in self.whole.get(source, ()) if p != path])

    def _context(self, index: int) -> GlobalContext:
        if index not in self.contexts:
            degraded = degrade_for(self.case, self.items[index].reference, index)
            path = self._written(index, degraded)
            options = UpsampleOptions(cutoff_hz=degraded.cutoffs)
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
        truth: Spectra,
        degraded: Degraded,
        system: str,
        outputs: Sequence[Tensor],
        speed: float | None,
    ) -> Row:
        made = [Spectra(output[:, degraded.judged]) for output in outputs]
        found = [measure(truth, m, degraded.cutoff_hz) for m in made]
        figures = {key: _mean([f[key] for f in found]) for key in found[0]}
        if len(made) > 1:
            figures |= _variety(truth, made, degraded.cutoff_hz)
        for judge in self.settings.judges:
            figures[judge] = opinion(judge, truth.samples, made[0].samples)
        figures["real_time_factor"] = speed
        pair = None
        if system in JUDGED_FOR_REALISM and self.case.kind != "tones":
            pair = patches(truth, made[0], degraded.cutoff_hz, item.source)
        return Row(
            item.name,
            item.kind,
            truth.samples.shape[-1] / SAMPLE_RATE,
            self.case.name,
            system,
            degraded.cutoff_hz,
            figures,
            item.source,
            pair,
        )


def _variety(truth: Spectra, made: Sequence[Spectra], cutoff_hz: float) -> dict[str, float]:
    """How far two draws are apart, and how near the average of all draws' log spectra is."""
    average = torch.stack([log_power(m.power) for m in made]).mean(0)
    between = distances(made[0].samples, made[1].samples, cutoff_hz).lsd_hf
    nearer = spectral_distance(truth.power, average, cutoff_hz)["lsd_hf"]
    return {"averaged_lsd_hf": nearer, "draws_lsd_hf": between}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def by_name(path: Path, others: Sequence[Path]) -> list[Path]:
    """Sort paths: first those that begin most like ``path``.

    They are of the same voice or album, if names tell. Of several that begin alike, those that
    follow ``path`` come before the others.
    """

    def order(other: Path) -> tuple[int, bool, Path]:
        return -len(commonprefix([str(path), str(other)])), other < path, other

    return sorted(others, key=order)


def _excerpt(path: Path, seconds: float) -> Tensor:
    return read_audio(path, SAMPLE_RATE)[:, : round(seconds * SAMPLE_RATE)]
