"""Results of an earlier run that ``upsample --resume`` keeps: of this recording and these settings.

torch is imported only where there is a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lily.audio.probe import probe
from lily.certify.paths import metadata_path
from lily.checkpoints.folder_config import weights_sha256
from lily.checkpoints.resolve import bundled_folder
from lily.config.presets import Config
from lily.errors import InputError
from lily.inference.options import (
    UpsampleOptions,
    cutoff_segments,
    format_cutoff,
    format_takes,
    shortest,
)
from lily.inference.profiles import completed

if TYPE_CHECKING:
    from lily.certify.metadata import OutputMetadata, Settings

SAME_SECONDS, SAME_HZ = 1e-3, 0.1  # the metadata has places in samples
SHOWN = {"wall_hz": "wall", "brightness_db": "brightness", "temporal_shape": "temporal shape"}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
DIGITS = 8  # of a hash that is shown


@dataclass(frozen=True)
class FinishedOutput:
    """A complete output of an earlier run."""

    path: Path
    metadata: OutputMetadata


def finished_output(output: Path) -> FinishedOutput | None:
    """The complete result of an earlier run, if there is one; its metadata is written last.

    One whose metadata is damaged is none.
    """
    stored = metadata_path(output)
    if not stored.exists():
        return None
    from lily.certify.metadata import read_metadata

    try:
        metadata = read_metadata(stored)
    except InputError:
        return None  # a run refuses the name, as of any other file
    if output.exists():
        return FinishedOutput(output, metadata)
    instead = output.with_suffix(".wav")
    if metadata.output.subtype == "FLOAT" and instead.exists():
        return FinishedOutput(instead, metadata)
    return None


class AskedSettings:
    """The settings of a run, to compare with those of finished outputs; hashed once."""

    def __init__(self, chosen: UpsampleOptions, config: Config, precision: str) -> None:
        """Raises InputError for options that the model of ``config`` cannot follow."""
        self._options = completed(chosen, config)
        self._seed_drawn = chosen.seed is None
        self._config, self._precision = config, precision

    def require_same(self, found: FinishedOutput, recording: Path) -> None:
        """Raise InputError unless an output was made with these settings, of this recording."""
        differing = list(self._differing(found.metadata))
        if differing:
            raise InputError(
                f"{found.path} exists already and has {' and '.join(differing)}; give the earlier "
                "settings or another output folder, or move it away."
            )
        if _recording_sha256(recording) != found.metadata.input.sha256:
            raise InputError(
                f"{found.path} exists already and was made of another recording than {recording}; "
                "give another output folder, or move it away."
            )

    def _differing(self, found: OutputMetadata) -> Iterator[str]:
        """The settings that differ, such as ``steps 1, not 4``."""
        given = cutoff_segments(self._options.cutoff_hz)
        before = found.cutoffs if found.cutoff_source == "given" else ()
        if not _same_cutoffs(before, given):
            yield f"the cutoff {_cutoff(before)}, not {_cutoff(given)}"
        if not found.generated:
            return  # the recording itself, whatever the other settings are
        for name, value in self._wanted().items():
            stored = getattr(found.settings, name)
            if name == "brightness_db":
                stored, value = stored or None, value or None  # 0 dB changes nothing
            # An older version may not have stored it.
            if name in found.settings.model_fields_set and stored != value:
                yield f"{SHOWN.get(name, name)} {_shown(stored)}, not {_shown(value)}"
        yield from self._other_weights(found.settings)
        yield from self._other_context(found.settings)

    def _wanted(self) -> dict[str, Any]:
        """What the settings of an output must be."""
        asked = self._options
        return {
            "model": str(self._config.get("name", "model")),
            "encoder": asked.encoder,
            "profile": asked.profile,
            "steps": asked.steps,
            "sampler": asked.sampler,
            "guidance": asked.guidance,
            "takes": asked.takes,
            "wall_hz": asked.wall_hz,
            "brightness_db": asked.brightness_db,
            "temporal_shape": asked.temporal_shape,
            **({} if self._seed_drawn else {"seed": asked.seed}),
            **({"precision": PRECISIONS[self._precision]} if self._precision in PRECISIONS else {}),
        }

    def _other_weights(self, stored: Settings) -> Iterator[str]:
        known = self._weights
        if known and stored.weights_sha256 and known != stored.weights_sha256:
            yield f"the weights {_digits(stored.weights_sha256)}, not {_digits(known)} (SHA-256)"

    def _other_context(self, stored: Settings) -> Iterator[str]:
        if stored.context_sha256 == self._context:
            return
        files = ", ".join(path.name for path in self._options.context_files)
        given = f"{files} ({_digits(self._context)})" if files else "none"
        yield f"the context {_digits(stored.context_sha256) or 'none'}, not {given}"

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        """The hashes of weights on this machine; those on the Hub are not asked for."""
        weights = self._config.get("weights") or {}
        folder = weights.get("folder") or (
            bundled_folder(weights["bundled"]) if "bundled" in weights else None
        )
        if folder is None or "base_model" in self._config:
            return ()
        try:
            return weights_sha256({"weights": {"folder": str(folder)}})
        except OSError:
            return ()  # loading it says what is wrong

    @cached_property
    def _context(self) -> tuple[str, ...]:
        if not self._options.context_files:
            return ()
        from lily.inference.borrowed import context_sha256

        return tuple(context_sha256(path) for path in self._options.context_files)


def _recording_sha256(path: Path) -> str:
    """The hash of a recording as metadata has it; raises InputError if it cannot be read."""
    info = probe(path)
    from lily.audio.read import read_blocks
    from lily.audio.sample_hash import AudioHash

    return AudioHash.of(info, read_blocks(path))


def _digits(hashes: tuple[str, ...]) -> str:
    """The first digits of each."""
    return ", ".join(digest[:DIGITS] for digest in hashes)


def _same_cutoffs(before: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    return len(before) == len(given) and all(
        abs(start - other) <= SAME_SECONDS and abs(hz - other_hz) <= SAME_HZ
        for (start, hz), (other, other_hz) in zip(before, given, strict=True)
    )


def _cutoff(segments: tuple[Any, ...]) -> str:
    if not segments:
        return "detected"
    return format_cutoff(segments[0][1] if len(segments) == 1 else segments)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return format_takes(value) if value else "none"
    if isinstance(value, float):
        return shortest(value)
    return "none" if value is None else str(value)
