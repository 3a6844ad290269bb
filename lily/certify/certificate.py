"""Decide what a certificate says: what of an output is the recording, and whether the laws hold.

It names the input and the output by hashes of their samples, tells how the output was made, and
gives the figures of null_test.py and seams.py with the laws they have to satisfy. It holds no
name, path or time: the same run gives the same certificate. Its canonical form is JSON with sorted
keys and no spaces; the SHA-256 of that is the seal, which is kept inside the audio file. That is
proof against accidents; against a forger there is `lily verify --against`, which computes anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lily.certify.check import Law
from lily.certify.null_test import Band, Kept, Signal
from lily.certify.seams import SeamScore
from lily.dsp.cutoffs import Cutoffs
from lily.errors import InputError

SCHEMA = "lily-certificate/1"
MARK = "lily"  # the key that tells a short form from other comments

NULL, TRUE_PEAK = "Null depth below the crossover", "True peak of the output"

# What has to hold, and why at this figure.
NULL_DB = 60.0  # a difference this far below is under any recording's own noise
ROUNDING_DB = -140.0  # 24-bit rounding has -146 dBFS: a difference below this is no louder
LEVEL_DB = 0.01  # a hundredth of what ears tell apart
DC = 1e-5  # -100 dBFS
ENDS = 1.0  # full-scale samples' worth of DC that highs leave where a recording's ends cut them
CORRELATION = 0.001
SEAM = 0.05
LONGEST_FADE = 60.0  # seconds; chunks are seconds long
SURE = 3.0  # standard errors: with few joins a ratio must be further off than chance takes it


@dataclass(frozen=True)
class Run:
    """How the output was made."""

    model: str
    weights_sha256: tuple[str, ...]  # of each safetensors file, a base before its adapter
    encoder: bool
    steps: int
    sampler: str
    guidance: float
    seed: int
    profile: str
    filled: bool  # False: there was nothing to fill in, the output is the recording
    cutoffs: tuple[tuple[int, float], ...]  # (start in samples of the output, Hz)
    device: str
    precision: str
    threads: int
    joins: tuple[float, ...] = ()  # seconds, middles of the cross-fades between chunks
    fade: float = 0.0  # seconds, length of a cross-fade


@dataclass(frozen=True)
class Recording:
    """The input: as its file holds it, and its figures at the output's rate."""

    sha256: str  # of rate, channels and decoded samples
    sample_rate: int
    channels: int
    samples: int  # at the output's rate
    signal: Signal


@dataclass(frozen=True)
class Output:
    """The output as its file holds it."""

    sha256: str  # of the samples as float32, frame by frame
    sample_rate: int
    channels: int
    samples: int
    subtype: str
    signal: Signal


@dataclass(frozen=True)
class Certificate:
    """Everything that is certified of one output."""

    run: Run
    input: Recording
    output: Output
    kept: Kept
    added: tuple[Band, ...]
    seams: SeamScore | None
    versions: dict[str, str] = field(default_factory=dict)
    schema: str = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """As plain values, figures rounded to what they are good for."""
        return _plain(asdict(self))

    @property
    def seal(self) -> str:
        """SHA-256 of the canonical form."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def short(self) -> str:
        """What is kept inside the audio file: the seal, hashes and parameters, ASCII."""
        run = self.run
        told = {
            MARK: SCHEMA,
            "seal": self.seal,
            "samples": self.output.sha256,
            "input": self.input.sha256,
            "weights": list(run.weights_sha256),
            "model": run.model[:80],
            "cutoff_hz": round(self.cutoffs.lowest_hz, 1),
            "encoder": "on" if run.encoder else "off",
            "steps": run.steps,
            "sampler": run.sampler,
            "guidance": run.guidance,
            "seed": run.seed,
            "profile": run.profile,
            "version": self.versions.get("lily", ""),
        }
        return json.dumps(told, separators=(",", ":"))

    @property
    def cutoffs(self) -> Cutoffs:
        """The cutoffs as the filters take them."""
        return Cutoffs(*(tuple(column) for column in zip(*self.run.cutoffs, strict=True)))

    def laws(self) -> tuple[Law, ...]:
        """Every figure with its unit and whether it is as it must be; None where nothing must."""
        before, after, kept = self.input.signal, self.output.signal, self.kept
        dc = max(abs(a - b) for a, b in zip(before.dc, after.dc, strict=True))
        clipped = 0
        if self.output.subtype != "FLOAT":
            clipped = max(0, after.at_full_scale - before.at_full_scale)
        length = self.output.samples == self.input.samples
        told = [
            Law("Length", f"{self.output.samples:,} of {self.input.samples:,}", "samples", length),
            *(_null(name, value, kept.residual_db) for name, value in _nulls(kept)),
            Law(
                "Level of the kept band, change",
                round(kept.level_change_db, 4),
                "dB",
                abs(kept.level_change_db) <= LEVEL_DB,
            ),
            Law(
                "DC, change",
                float(f"{dc:.2g}"),
                "of full scale",
                dc <= DC + ENDS / max(1, self.output.samples),
            ),
        ]
        change = kept.correlation_change
        if change is not None:
            holds = abs(change) <= CORRELATION
            told.append(
                Law("Stereo correlation of the kept band, change", round(change, 6), "", holds)
            )
        told += [
            Law("Clipped by the output", clipped, "samples", clipped == 0),
            Law("True peak of the recording", round(before.true_peak_db, 2), "dBTP"),
            Law(TRUE_PEAK, round(after.true_peak_db, 2), "dBTP"),
        ]
        if self.seams:
            told += _seams(self.seams)
        told += [
            Law(f"Added, {b.low_hz:,.0f} to {b.high_hz:,.0f} Hz", round(b.added_db, 1), "dBFS")
            for b in self.added
        ]
        return tuple(told)


def summary(laws: Sequence[Law]) -> str:
    """One line of a certificate's rows: what does not hold, or the figures asked for most."""
    stated = [law for law in laws if law.holds is not None]
    broken = [law.label.lower() for law in stated if not law.holds]
    if broken:
        return f"does not hold: {', '.join(broken)}"
    told = {law.label: f"{law.value} {law.unit}" for law in laws}
    shown = [f"{label.lower()} {told[label]}" for label in (NULL, TRUE_PEAK) if label in told]
    return f"{len(stated)} laws hold" + "".join(f", {figure}" for figure in shown)


def certificate_path(audio: Path) -> Path:
    """Where the certificate of an audio file lies."""
    return audio.with_name(f"{audio.stem}.certificate.json")


def read_certificate(path: Path) -> Certificate:
    """Read a certificate; raises InputError if it is none, or of another schema."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as a certificate ({error}); give the file that Lily wrote."
        ) from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        found = told.get("schema") if isinstance(told, dict) else None
        raise InputError(f"{path.name} has schema {found!r}; this version of Lily reads {SCHEMA}.")
    try:
        certificate = _built(Certificate, told)
        assert isinstance(certificate, Certificate)
        certificate.laws()
        _check(certificate)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"{path.name} is no whole certificate: {error}.") from error
    return certificate


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no figure")


def _check(certificate: Certificate) -> None:
    """Raise ValueError for what no run has and measuring again would choke on."""
    run, starts = certificate.run, certificate.cutoffs.starts
    seconds = certificate.output.samples / 1_000  # 1 kHz is the slowest rate there is
    if starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
        raise ValueError(f"cutoffs start at {starts[:3]}")
    if not all(0 < hz < 1e6 for hz in certificate.cutoffs.hz):
        raise ValueError(f"cutoffs are {certificate.cutoffs.hz[:3]} Hz")
    if not 0 <= run.fade <= LONGEST_FADE or not all(0 <= join <= seconds for join in run.joins):
        raise ValueError(f"joins are {run.joins[:3]} s and fade over {run.fade} s")


def read_short(comment: str) -> dict[str, Any]:
    """The short form in a file's comment; empty where there is none."""
    try:
        told = json.loads(comment)
    except (ValueError, RecursionError):  # nested by somebody who means harm
        return {}
    return told if isinstance(told, dict) and told.get(MARK) == SCHEMA else {}


def _nulls(kept: Kept) -> tuple[tuple[str, float | None], ...]:
    return (
        (NULL, kept.null_db),
        ("Null depth, worst moment", kept.worst_null_db),
    )


def _null(name: str, value: float | None, residual_db: float) -> Law:
    if value is None:
        return Law(name, "too short to tell", "", None)
    return Law(name, round(value, 1), "dB", value >= NULL_DB or residual_db <= ROUNDING_DB)


def _seams(score: SeamScore) -> list[Law]:
    pairs = (
        ("flux", score.flux_ratio, score.flux_error),
        ("level", score.level_ratio, score.level_error),
    )
    return [
        Law(
            f"Seam score, {name} at {score.joins} joins",
            round(ratio, 3),
            f"± {error:.3f}",
            abs(ratio - 1.0) <= max(SEAM, SURE * error),
        )
        for name, ratio, error in pairs
    ]


def _plain(value: Any) -> Any:
    """Rounded to 6 decimals and 9 significant digits; tuples as lists, as JSON reads them back."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


def _built(kind: Any, value: Any) -> Any:
    """A value of a type, from what JSON holds; raises TypeError, ValueError or KeyError."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and type(None) in inner:
            return None
        (kind,) = (option for option in inner if option is not type(None))
        return _built(kind, value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            raise ValueError(f"{kind.__name__} has not the fields {', '.join(hints)}")
        return kind(**{name: _built(hint, value[name]) for name, hint in hints.items()})
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        if inner[-1] is Ellipsis:
            return tuple(_built(inner[0], item) for item in value)
        return tuple(_built(hint, item) for hint, item in zip(inner, value, strict=True))
    if origin is dict:
        return {str(key): _built(inner[1], item) for key, item in dict(value).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
