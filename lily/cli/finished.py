"""Results of an earlier run that ``upsample --resume`` keeps: only those of the settings asked for.

Needs no torch, except for the hash of a borrowed recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

SAME_SECONDS, SAME_HZ = 1e-3, 0.1  # the metadata has places in samples
SHOWN = {"wall_hz": "wall", "brightness_db": "brightness", "temporal_shape": "temporal shape"}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def finished_output(output: Path) -> Path | None:
    """The complete result of an earlier run, if there is one; its metadata is written last."""
    subtype = _metadata(output).get("output", {}).get("subtype")
    if subtype is None:
        return None
    if output.exists():
        return output
    instead = output.with_suffix(".wav")
    return instead if subtype == "FLOAT" and instead.exists() else None


def require_same_settings(
    output: Path, asked: UpsampleOptions, seed_drawn: bool, config: Config, precision: str
) -> None:
    """Raise InputError if a finished output was made with other settings than those ``asked``.

    ``asked`` have the defaults of the model's ``config`` filled in.
    """
    found = _metadata(output)
    differing = list(_differing(found, asked, seed_drawn, config, precision))
    if differing:
        raise InputError(
            f"{output} exists already and has {' and '.join(differing)}; give the earlier "
            "settings or another output folder, or move it away."
        )


def _differing(
    found: dict[str, Any], asked: UpsampleOptions, seed_drawn: bool, config: Config, precision: str
) -> Iterator[str]:
    """The settings that differ, such as ``steps 1, not 4``."""
    stored = found.get("settings", {})
    given = cutoff_segments(asked.cutoff_hz)
    before = ()
    if found.get("cutoff_source") == "given":
        before = tuple(map(tuple, found["cutoffs"]))
    if not _same_cutoffs(before, given):
        yield f"the cutoff {_cutoff(before)}, not {_cutoff(given)}"
    if not found.get("generated", True):
        return  # the recording itself, whatever the other settings are
    wanted = {
        "model": str(config.get("name", "model")),
        "encoder": asked.encoder,
        "profile": asked.profile,
        "steps": asked.steps,
        "sampler": asked.sampler,
        "guidance": asked.guidance,
        "takes": [list(take) for take in asked.takes],
        "wall_hz": asked.wall_hz,
        "brightness_db": asked.brightness_db,
        "temporal_shape": asked.temporal_shape,
        **({} if seed_drawn else {"seed": asked.seed}),
        **({"precision": PRECISIONS[precision]} if precision in PRECISIONS else {}),
    }
    for name, value in wanted.items():
        if stored.get(name, value) != value:
            yield f"{SHOWN.get(name, name)} {_shown(stored[name])}, not {_shown(value)}"
    if not _same_weights(stored, config):
        yield "other weights"
    if not _same_context(stored, asked):
        yield "another context"


def _same_weights(stored: dict[str, Any], config: Config) -> bool:
    """Whether weights on this machine are those of a result; those on the Hub are not asked for."""
    weights = config.get("weights") or {}
    folder = weights.get("folder") or (
        bundled_folder(weights["bundled"]) if "bundled" in weights else None
    )
    known = stored.get("weights_sha256")
    if folder is None or not known or "base_model" in config:
        return True
    try:
        return list(weights_sha256({"weights": {"folder": str(folder)}})) == known
    except OSError:
        return True  # loading it says what is wrong


def _same_context(stored: dict[str, Any], asked: UpsampleOptions) -> bool:
    known = stored.get("context_sha256", [])
    if len(known) != len(asked.context_files):
        return False
    if not known:
        return True
    from lily.inference.borrowed import context_sha256

    return [context_sha256(path) for path in asked.context_files] == known


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
    if isinstance(value, list):
        return format_takes(tuple(map(tuple, value))) if value else "none"
    if isinstance(value, float):
        return shortest(value)
    return "none" if value is None else str(value)


def _metadata(output: Path) -> dict[str, Any]:
    """The metadata beside an output; empty if there is none or it is damaged."""
    try:
        found = json.loads(metadata_path(output).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    sections = (found.get(name, {}) for name in ("output", "settings"))
    return found if all(isinstance(section, dict) for section in sections) else {}
