"""Convert AudioSR's checkpoints into model folders: every tensor is accounted for.

A tensor is used, or known and not needed; any other stops the conversion before anything is
written. The checkpoint is memory-mapped and the folder written tensor by tensor, so memory stays
below the checkpoint's size. The Global Audio Encoder's tensors may be absent:
``lily.checkpoints.model_folder`` then starts it neutral.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lily.checkpoints.files import require_empty
from lily.checkpoints.folder_config import WEIGHTS, write_config
from lily.checkpoints.model_folder import expected_tensors, is_of_encoder
from lily.checkpoints.reader import Checkpoint, Shapes, open_checkpoint
from lily.config.presets import Config
from lily.errors import WeightsError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # safetensors' names

UNET = "model.diffusion_model."
EMA = "model_ema."
VAE = "first_stage_model."
SECOND_VAE = "cond_stage_models.0.vae."
CLAP = "clap."
# Registered beside AudioSR's networks (``ddpm.py: register_schedule``), from a formula.
SCHEDULE = frozenset(
    """
    logvar betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod
    sqrt_one_minus_alphas_cumprod log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod
    sqrt_recipm1_alphas_cumprod posterior_variance posterior_log_variance_clipped
    posterior_mean_coef1 posterior_mean_coef2
    """.split()  # noqa: SIM905
)
LISTED = 20  # names an error spells out


@dataclass
class Account:
    """Where each tensor of a checkpoint goes, and where each tensor of the folder comes from."""

    used: dict[str, tuple[str, ...]] = field(default_factory=dict)  # one name, or (g, v) to fold
    unneeded: dict[str, list[str]] = field(default_factory=dict)  # by reason
    twins: dict[str, str] = field(default_factory=dict)  # second VAE -> first
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)  # "name is (…), expected (…)"

    def rows(self, shapes: Shapes) -> list[tuple[str, int, int]]:
        """(kind, tensors, parameters) for every kind of tensor."""
        folded = [names for names in self.used.values() if len(names) == 2]
        plain = [names for names in self.used.values() if len(names) == 1]
        kinds: list[tuple[str, Iterable[str]]] = [("used", (n for names in plain for n in names))]
        if folded:
            kinds.append(("used: weight-norm pairs, folded", (n for pair in folded for n in pair)))
        kinds += [(f"not needed: {kind}", names) for kind, names in self.unneeded.items()]
        kinds.append(("unknown", self.unknown))
        counted = []
        for kind, names in kinds:
            names = list(names)
            counted.append((kind, len(names), sum(math.prod(shapes[name]) for name in names)))
        return [*counted, ("missing", len(self.missing), 0)]

    def refuse_problems(self, path: Path) -> None:
        """Raise WeightsError that lists missing, unknown and misshapen tensors, if any."""
        if not self.used:
            first = self.unknown[0] if self.unknown else "none at all"
            raise WeightsError(
                f"{path} is not an AudioSR checkpoint: it has none of its tensors (the first is "
                f"{first!r})."
            )
        problems = [
            f"{len(names)} {kind} tensors: {_listed(names)}"
            for kind, names in (
                ("missing", self.missing),
                ("unknown", self.unknown),
                ("misshapen", self.misshapen),
            )
            if names
        ]
        if problems:
            raise WeightsError(f"{path} has {'; '.join(problems)}. Nothing was written.")


def account_for(shapes: Shapes, expected: Shapes, ema: bool = False) -> Account:
    """Assign each tensor of a checkpoint (``shapes``) to the tensors of a model (``expected``).

    With ``ema`` the U-Net is taken from AudioSR's averaged copy.
    """
    account = Account()
    if not any(is_of_encoder(name) for name in shapes):
        expected = {k: v for k, v in expected.items() if not is_of_encoder(k)}
    averaged = {_ema_name(key): key for key in expected if key.startswith(UNET)}
    for key, shape in expected.items():
        names = _found(_ema_name(key) if ema and key.startswith(UNET) else key, shapes)
        if not names:
            account.missing.append(key)
            continue
        account.used[key] = names
        account.misshapen += _misshapen(names, shapes, shape)
    taken = {name for names in account.used.values() for name in names}
    for name in shapes:
        if name in taken:
            continue
        kind = _kind(name, averaged, expected)
        if name.startswith(SECOND_VAE) and VAE + name.removeprefix(SECOND_VAE) in shapes:
            kind = "second VAE, bit-equal"
            account.twins[name] = VAE + name.removeprefix(SECOND_VAE)
        if kind:
            account.unneeded.setdefault(kind, []).append(name)
        else:
            account.unknown.append(name)
    return account


def write_folder(
    checkpoint: Checkpoint, account: Account, config: Config, folder: Path, dtype: torch.dtype
) -> Path:
    """Write a complete model folder, or nothing; returns the folder.

    Raises WeightsError if a tensor is missing, unknown or misshapen, if the second VAE differs from
    the first, if a value overflows ``dtype``, or if the folder is not empty.
    """
    account.refuse_problems(checkpoint.path)
    require_empty(folder)
    _refuse_other_vae(checkpoint, account)
    made_folder = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    params = {
        "scale_lowpass": True,
        **config["model"]["params"],
    }  # AudioSR's networks were trained so
    config = {
        **config,
        "name": folder.resolve().name,
        "model": {**config["model"], "params": params},
    }
    partial = folder / (WEIGHTS + ".part")
    try:
        _write_tensors(checkpoint, account, partial, dtype)
        (folder / "README.md").write_text(
            _card(config["name"], checkpoint, account, dtype), "utf-8"
        )
        write_config(config, folder)
        os.replace(partial, folder / WEIGHTS)
    except BaseException:
        for name in (partial.name, "README.md", "config.json"):
            (folder / name).unlink(missing_ok=True)
        if made_folder:
            folder.rmdir()
        raise
    return folder


def examine(path: Path, config: Config, ema: bool = False) -> tuple[Checkpoint, Account]:
    """Open a checkpoint and assign its tensors to a preset's model; nothing is written."""
    checkpoint = open_checkpoint(path)
    shapes = {key: tuple(value.shape) for key, value in expected_tensors(config).items()}
    account = account_for(checkpoint.shapes, shapes, ema)
    return checkpoint, account


# ---- accounting ---------------------------------------------------------------------------------


def _ema_name(key: str) -> str:
    """AudioSR's name of the averaged copy, without dots (``modules/ema.py``)."""
    return EMA + key.removeprefix("model.").replace(".", "")


def _found(name: str, shapes: Shapes) -> tuple[str, ...]:
    """The checkpoint's tensors for ``name``: itself, or a weight-norm pair (g, v)."""
    if name in shapes:
        return (name,)
    stem = name.removesuffix(".weight")
    pairs = (
        (f"{name}_g", f"{name}_v"),
        (f"{stem}.parametrizations.weight.original0", f"{stem}.parametrizations.weight.original1"),
    )
    return next((pair for pair in pairs if all(part in shapes for part in pair)), ())


def _misshapen(names: tuple[str, ...], shapes: Shapes, expected: tuple[int, ...]) -> list[str]:
    found = [shapes[name] for name in names]
    fits = found[-1] == expected
    if len(found) == 2:  # g has the direction's axis, or is 1 there
        fits = fits and len(found[0]) == len(expected)
        fits = fits and all(g in (1, v) for g, v in zip(found[0], expected, strict=True))
    return [] if fits else [f"{names[-1]} is {found[-1]}, expected {expected}"]


def _kind(name: str, averaged: Mapping[str, str], expected: Shapes) -> str:
    """Why an unused tensor is not needed; empty if it is unknown."""
    if name in averaged or name in (f"{EMA}decay", f"{EMA}num_updates"):
        return "EMA copy of the U-Net"
    if name.startswith(UNET) and name in expected:  # with --ema
        return "U-Net as trained"
    if name.startswith(CLAP):
        return "CLAP, a text model"
    return "schedule, from a formula" if name in SCHEDULE else ""


def _refuse_other_vae(checkpoint: Checkpoint, account: Account) -> None:
    for second, first in account.twins.items():
        pair = checkpoint.read(second), checkpoint.read(first)
        same = pair[0].dtype == pair[1].dtype and pair[0].shape == pair[1].shape
        # As bytes: a NaN equals itself, and -0.0 is not 0.0.
        if not same or not torch.equal(
            *(t.contiguous().reshape(-1).view(torch.uint8) for t in pair)
        ):
            raise WeightsError(
                f"{checkpoint.path}: {second} is not bit-equal to {first}; Lily keeps one VAE and "
                "cannot tell which is right. Nothing was written."
            )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


# ---- writing ------------------------------------------------------------------------------------


def _write_tensors(
    checkpoint: Checkpoint, account: Account, path: Path, dtype: torch.dtype
) -> None:
    """Write safetensors one tensor at a time; the library's writer needs all in memory."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end, stored = 0, {}
    shapes = {key: checkpoint.shapes[names[-1]] for key, names in account.used.items()}
    # Scalars first: they may be wider than the rest, and every value should be aligned.
    for key, shape in sorted(shapes.items(), key=lambda item: (item[1] != (), item[0])):
        stored[key] = dtype if shape else torch.float32  # scale_factor stays exact
        start, end = end, end + math.prod(shape) * stored[key].itemsize
        header[key] = {"dtype": _STORED[stored[key]], "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # the data begins at a multiple of 8
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for key in stored:
            value = _tensor(checkpoint, account.used[key], stored[key])
            file.write(memoryview(_bits(value).numpy()))


def _tensor(checkpoint: Checkpoint, names: tuple[str, ...], dtype: torch.dtype) -> Tensor:
    value = checkpoint.read(names[-1])
    if len(names) == 2:
        value = folded(checkpoint.read(names[0]), value)
    converted = value.to(dtype)
    if not converted.isfinite().all():
        raise WeightsError(
            f"{checkpoint.path}: {names[-1]} has values that are not finite as {dtype}; give "
            "--dtype bf16 or fp32, or another checkpoint."
        )
    return converted


def folded(g: Tensor, v: Tensor) -> Tensor:
    """The weight of a weight-norm pair, length ``g`` and direction ``v``: g v / |v|.

    The norm runs over the axes along which ``g`` is 1. Source: Salimans and Kingma 2016.
    """
    axes = tuple(axis for axis in range(v.ndim) if g.shape[axis] == 1)
    return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=True))


def _bits(tensor: Tensor) -> Tensor:
    """A tensor as bytes (n,): there a NaN equals itself, and -0.0 is not 0.0."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _card(name: str, checkpoint: Checkpoint, account: Account, dtype: torch.dtype) -> str:
    count = sum(math.prod(checkpoint.shapes[names[-1]]) for names in account.used.values())
    averaged = any(name.startswith(EMA) for names in account.used.values() for name in names)
    unet = "the averaged (EMA) copy" if averaged else "AudioSR's own, not its averaged (EMA) copy"
    encoder = "in this file"
    if not any(map(is_of_encoder, account.used)):
        encoder = "untrained and not in this file, so that on and off give the same samples"
    return f"""---
library_name: lily
pipeline_tag: audio-to-audio
tags:
  - audio-super-resolution
  - bandwidth-extension
  - latent-diffusion
---

# {name}

Weights of an AudioSR checkpoint (`{checkpoint.path.name}`), converted for Lily. Any audio in,
48 kHz out; what lies above the recording's cutoff is generated, not recovered.

- {count:,} numbers, stored as {str(dtype).removeprefix("torch.")}; the U-Net is {unet}.
- The Global Audio Encoder is {encoder}.
- Nothing was trained, tuned or measured here. The checkpoint's licence applies: look it up where
  you got the checkpoint.

```bash
python -m lily upsample recording.wav -o restored --weights {name}
```

AudioSR: Liu et al. 2023, [arXiv:2309.07314](https://arxiv.org/abs/2309.07314).
"""
