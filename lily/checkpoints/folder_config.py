"""The configuration of a model folder and the paths of its files. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from lily.config.presets import Config, validate
from lily.errors import ConfigError, WeightsError

FORMAT = 1  # of a model folder
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FROZEN = (
    "name",
    "preprocessing",
    "model",
    "inference",
    "base_model",
)  # sections that a folder keeps


def read_folder_config(folder: Path) -> Config:
    """A model folder's configuration, with ``weights`` set to the folder; raises WeightsError."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} is not a model folder: it has no {CONFIG}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("lily_format") != FORMAT:
        found = config.get("lily_format") if isinstance(config, dict) else None
        raise WeightsError(f"{path} has format {found!r}; this version of Lily reads {FORMAT}.")
    config.pop("lily_format")
    try:
        return {**validate(config, path.name), "weights": {"folder": str(folder)}}
    except ConfigError as error:
        raise WeightsError(f"{folder}: {error}") from error


def weights_files(config: Config) -> list[Path]:
    """The weights files of a configuration on this machine: a base, then its adapter."""
    weights = config["weights"]
    folders = [weights["base"], weights["folder"]] if "base" in weights else [weights["folder"]]
    return [Path(folder) / WEIGHTS for folder in folders]


def weights_sha256(config: Config) -> tuple[str, ...]:
    """SHA-256 of each of ``weights_files``, as the Hub reports it for large files."""
    digests = []
    for path in weights_files(config):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digests.append(digest.hexdigest())
    return tuple(digests)


def write_config(config: Config, folder: Path) -> None:
    """Write ``config.json``: the sections of the configuration that a folder keeps."""
    frozen = {"lily_format": FORMAT, **{k: config[k] for k in FROZEN if k in config}}
    partial = folder / (CONFIG + ".part")
    partial.write_text(json.dumps(frozen, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / CONFIG)
