"""Open a checkpoint from any source: names and shapes at once, values on request, never code.

Pickles (``.bin``, ``.ckpt``) are read with ``weights_only``, which builds tensors and refuses
anything else; safetensors hold nothing else. Both are memory-mapped, so that memory holds only the
tensors that are read.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lily.checkpoints.files import SAFETENSORS, require_checkpoint
from lily.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """A memory-mapped file of tensors: names and shapes, and a function that reads a value."""

    path: Path
    shapes: Shapes
    read: Callable[[str], Tensor]


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint; raises WeightsError if it is missing, damaged or holds code."""
    require_checkpoint(path)
    return _open_safetensors(path) if path.suffix == SAFETENSORS else _open_pickle(path)


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        handle = safe_open(path, framework="pt")
        shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors: {error}") from error
    return Checkpoint(path, shapes, handle.get_tensor)


def _open_pickle(path: Path) -> Checkpoint:
    try:
        mapped = zipfile.is_zipfile(path)  # files from before torch 1.6 cannot be memory-mapped
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, KeyError, AttributeError) as error:
        code = re.search(r"GLOBAL (\S+)|global: (\S+)", str(error))
        what = f"it asks for {code[1] or code[2]}" if code else "it is not a pickle of tensors"
        raise WeightsError(
            f"{path} is refused: {what}, and Lily loads tensors only, never code."
        ) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise WeightsError(f"{path} is damaged: {why or 'it ends too early'}.") from error
    state = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} is not a checkpoint: it holds no state_dict of tensors.")
    return Checkpoint(path, {k: tuple(v.shape) for k, v in state.items()}, state.__getitem__)
