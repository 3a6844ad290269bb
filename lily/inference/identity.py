"""Decide what names a run and its chunks: hashes of everything that their bits depend on.

Two runs have one name only where an uninterrupted run would give the same bits: the same samples,
questions, weights, code, kind of processor and threads.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lily.config.presets import Config
from lily.model.global_encoder import GlobalContext


def digest(*parts: str | Tensor) -> str:
    """A hash of texts and tensors, in this order."""
    total = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, Tensor):
            data = part.detach().to("cpu", torch.float64).contiguous().numpy().tobytes()
        else:
            data = part.encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """A hash of files' contents, in this order."""
    total = hashlib.blake2b(digest_size=20)
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(1 << 22):
                total.update(data)
    return total.hexdigest()


@cache
def code_digest() -> str:
    """A hash of this program: another version may give other bits to the same question."""
    return files_digest(sorted(Path(__file__).parents[1].rglob("*.py")))


def machine(device: torch.device, precision: torch.dtype) -> tuple[str, ...]:
    """What the last bits of a result depend on besides the input: code, device, threads."""
    name = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    threads = str(torch.get_num_threads())
    return (code_digest(), torch.__version__, str(device), name, str(precision), threads)


def address(config: Config, weights: Sequence[str], *facts: object) -> str:
    """The name of a run with a model and its weights' hashes; ``facts`` is what else decides it."""
    keys = ("preprocessing", "model", "inference")
    read = json.dumps([config.get(key) for key in keys], sort_keys=True)
    return digest(repr(facts), read, *weights)


def facts_of(settings: object, context: GlobalContext | None) -> str:
    """The name of a take within its run, from its FillSettings and what its chunks know."""
    if context is None:
        return digest(repr(settings))
    known = digest(context.vector, context.tokens, context.times)
    return digest(repr((settings, context.spacing)), known)
