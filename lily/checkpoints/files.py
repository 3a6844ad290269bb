"""Check the files of models and checkpoints before they are loaded; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lily.checkpoints.folder_config import weights_files
from lily.config.presets import Config
from lily.errors import WeightsError

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@contextmanager
def open_safetensors(path: Path, framework: str) -> Iterator[Any]:
    """Open a safetensors file for ``pt`` or ``np`` tensors; raises WeightsError."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError as error:
        raise WeightsError(f"{path.parent} has no {path.name}; give a model folder.") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors: {error}") from error


def require_weights(config: Config) -> None:
    """Raise WeightsError if a weights file of a configuration is missing or damaged."""
    for path in weights_files(config):
        with open_safetensors(path, "np"):
            continue


def require_checkpoint(path: Path) -> None:
    """Raise WeightsError unless the path is a file of a kind that can be opened."""
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; give a .bin, .ckpt or .safetensors checkpoint.")
    if path.suffix == SAFETENSORS:
        with open_safetensors(path, "np"):
            return
    if path.suffix not in PICKLES:
        raise WeightsError(
            f"{path} ends in {path.suffix!r}; give a .bin, .ckpt or .safetensors file."
        )


def require_empty(folder: Path) -> None:
    """Raise WeightsError if something is in the way of a new model folder."""
    if folder.is_file():
        raise WeightsError(f"{folder} is a file; give a folder that is new or empty.")
    if folder.exists() and any(folder.iterdir()):
        raise WeightsError(f"{folder} is not empty and is not overwritten; give another folder.")
