"""From rows to a table: means by case and system, paired differences and their intervals, plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lily.evaluation.informed import INFORMED
from lily.evaluation.measures import TONAL
from lily.evaluation.realism import auc
from lily.evaluation.run import CONTROLS, JUDGED_FOR_REALISM, SYSTEMS, Row
from lily.evaluation.statistics import paired_difference

LONG_SECONDS = 30.0  # what counts as a recording with something to know beyond the chunk
DEFINITION = (
    "48 kHz, n_fft 2048, hop 512, Hann, log10 of power clamped at 1e-8, root mean square over "
    "frequency, mean over frames, mono, level as delivered; frames 50 dB under the mean left out"
)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything the model card quotes, from every row.

    ``table``: means over recordings. ``by_collection``: means over collections of the means over
    their recordings, so that a large collection counts no more than a small one. ``by_kind``: means
    over the recordings of music, effects and speech. ``realism``: the classifier's AUC.
    """
    return {
        "definition": DEFINITION,
        "table": table(rows),
        "by_collection": by_collection(rows),
        "by_kind": [
            {"kind": kind, **line}
            for kind in sorted({row.kind for row in rows})
            for line in table([row for row in rows if row.kind == kind])
        ],
        "realism": realism(rows),
        "differences": differences(rows),
        "recordings": [_listed(row) for row in rows],
    }


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Means over recordings, a row per case and system."""
    made = []
    for case, system, chosen in _groups(rows):
        means = _means([row.figures for row in chosen])
        made.append({"case": case, "system": system, "recordings": len(chosen), **means})
    return made


def by_collection(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Means over collections of their own means, a row per case and system."""
    made = []
    for case, system, chosen in _groups(rows):
        names = sorted({row.collection for row in chosen})
        own = [_means([r.figures for r in chosen if r.collection == name]) for name in names]
        made.append({"case": case, "system": system, "collections": len(names), **_means(own)})
    return made


def realism(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The AUC of the classifier by case and system; 0.5 is indistinguishable."""
    made = []
    for case, system, chosen in _groups(rows):
        if system in JUDGED_FOR_REALISM:
            found = auc([row.pair for row in chosen if row.pair is not None])
            if found is not None:
                made.append({"case": case, "system": system, "auc": round(found, 4)})
    return made


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Rows by case and system, in the order of the cases and of SYSTEMS."""
    for case in dict.fromkeys(row.case for row in rows):
        for system in SYSTEMS:
            chosen = [row for row in rows if (row.case, row.system) == (case, system)]
            if chosen:
                yield case, system, chosen


def _means(figures: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means of each figure where it is known; of tonality's, weighted by the tonal frames."""
    weights = [found.get("tonal_frames") or 0.0 for found in figures]
    means = {}
    for name in figures[0]:
        values = [found.get(name) for found in figures]
        if name in TONAL:
            known = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None and w]
            total = sum(w for _, w in known)
            means[name] = round(sum(v * w for v, w in known) / total, 4) if total else None
        else:
            means[name] = _mean(values)
    return means


def _listed(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    return {
        "name": row.name,
        "kind": row.kind,
        "collection": row.collection,
        "seconds": row.seconds,
        "case": row.case,
        "system": row.system,
        "cutoff_hz": row.cutoff_hz,
        "figures": {name: _rounded(value) for name, value in row.figures.items()},
    }


def differences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Paired differences of DISTANCES: negative means the first of the two is nearer."""
    made = []
    for case in dict.fromkeys(row.case for row in rows):
        for first, second in (("on", "off"), *((c, "on") for c in (*CONTROLS, *INFORMED))):
            for name, shortest in (("all", 0.0), ("30 s and more", LONG_SECONDS)):
                for measure in DISTANCES:
                    a, b, sources = _paired(rows, case, (first, second), shortest, measure)
                    if len(a) > 1:
                        pair = {"case": case, "pair": f"{first} - {second}", "of": name}
                        found = paired_difference(a, b, sources)
                        made.append({**pair, "measure": measure, **found})
    return made


def _paired(
    rows: Sequence[Row], case: str, pair: tuple[str, str], shortest: float, measure: str
) -> tuple[list[float], list[float], list[str]]:
    """A measure of both systems, and the collection, of every recording that both have."""
    first, second = pair
    found: dict[str, dict[str, float]] = {first: {}, second: {}}
    sources = {row.name: row.collection for row in rows}
    longest: dict[str, float] = {}
    for row in rows:
        longest[row.name] = max(row.seconds, longest.get(row.name, 0.0))
    for row in rows:
        value = DISTANCES[measure](row.figures)
        if row.case == case and row.system in found and value is not None:
            found[row.system][row.name] = value
    names = sorted(found[first].keys() & found[second].keys())
    names = [name for name in names if longest[name] >= shortest]
    return (
        [found[first][name] for name in names],
        [found[second][name] for name in names],
        [sources[name] for name in names],
    )


def _patchiness_error(figures: Mapping[str, float | None]) -> float | None:
    value = figures.get("patchiness")
    return None if value is None else abs(value - 1.0)


# Measures whose differences between systems are tested: 0 is the reference itself.
DISTANCES: dict[str, Callable[[Mapping[str, float | None]], float | None]] = {
    "lsd_hf": lambda figures: figures["lsd_hf"],
    "patchiness_error": _patchiness_error,  # distance from 1
}


def plot(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw LSD-HF by case, and on minus off for every recording; returns the files."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in rows))
    systems = [s for s in SYSTEMS if any(row.system == s for row in rows)]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for place, system in enumerate(systems):
        found = [
            _mean([r.figures["lsd_hf"] for r in rows if (r.case, r.system) == (case, system)])
            for case in cases
        ]
        means = [math.nan if mean is None else mean for mean in found]  # not run in that case
        offsets = [i + (place - len(systems) / 2) * 0.8 / len(systems) for i in range(len(cases))]
        axes.bar(offsets, means, 0.8 / len(systems), label=system, align="edge")
    axes.set_xticks(range(len(cases)), cases)
    axes.set_ylabel("LSD above the cutoff")
    axes.legend(ncols=4, fontsize="small")
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / "lsd.png", folder / "on-off.png"]
    figure.savefig(made[0], dpi=110)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for case in cases:
        a, b, _ = _paired(rows, case, ("on", "off"), 0.0, "lsd_hf")
        axes.plot(sorted(x - y for x, y in zip(a, b, strict=True)), marker=".", label=case)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("recordings, sorted")
    axes.set_ylabel("LSD-HF, encoder on minus off")
    axes.legend(fontsize="small")
    figure.savefig(made[1], dpi=110)
    return made


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(fmean(known), 4) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
