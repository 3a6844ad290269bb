"""Run the recipe: one loop for every stage, atomic checkpoints, exact resumption, EMA export.

Told as events, so that the command line draws the progress bar and tests read the losses. A
checkpoint holds the stage's weights, their moving average, the optimiser, the step and the
generator; a run continued with the same threads gives the bits of one never stopped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lily.config import (
    Config,
    MelConfig,
    StageConfig,
    TrainingConfig,
    mel_config,
    training_config,
)
from lily.errors import TrainingError
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.dataset import Corpus, find_recordings, prepare, split_by_source
from lily.training.stages import KINDS, STAGES, Stage, encode_corpus, stage_config
from lily.weights import save_model_folder

CHECKPOINT_SECONDS = 120.0  # what a power cut may cost
REPORT_STEPS = 20


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` steps or files of a stage, and its figures."""

    stage: str
    done: int
    total: int
    figures: dict[str, float]


def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    resume: bool = False,
    device: torch.device | None = None,
) -> Iterator[Progress]:
    """Train the stages on a folder of audio and export a model folder to ``out/model``.

    Finished stages found in ``out`` are loaded, unfinished ones continue under ``resume``; without
    it a folder with checkpoints is refused. Raises InputError and TrainingError.
    """
    if "training" not in config:
        raise TrainingError(f"Preset {config.get('name')!r} has no training section; add one.")
    recipe = training_config(config["training"])
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not resume and any(out.glob("*.pt")):
        raise TrainingError(f"{out} already holds checkpoints; give --resume or another folder.")
    recordings = find_recordings(data)
    out.mkdir(parents=True, exist_ok=True)
    cache = out / f"cache-{_fingerprint(recipe, _mel(config))}"
    for done, _ in enumerate(prepare(recordings, cache, recipe, _mel(config)), 1):
        yield Progress("prepare", done, len(recordings), {})
    training, validation = split_by_source(recordings, recipe.validation_fraction, recipe.seed)
    _write_split(out / "split.json", data, training, validation)
    corpus = Corpus(cache, training, recipe)

    model = _build(config, recipe.seed).to(device).eval()
    for name in STAGES:
        if name not in stages:
            _load_finished(model, out, name, stages)
            continue
        if name in ("diffusion", "encoder"):
            for index in encode_corpus(model, corpus, device, set_scale=name == "diffusion"):
                yield Progress("encode", index + 1, len(corpus.recordings), {})
        stage = KINDS[name](model, stage_config(recipe, name), device)
        loop = _Loop(name, stage, out, recipe.seed)
        yield from loop.run(corpus, resume)
    # Only now: half of the stages make no model.
    save_model_folder(model, config, out / "model", dtype=torch.float16)
    yield Progress("export", 1, 1, {})


def _fingerprint(recipe: TrainingConfig, mel: MelConfig) -> str:
    """What the prepared arrays depend on besides the audio: other settings, another folder."""
    facts = (recipe.seed, recipe.variants, recipe.cutoff_hz, asdict(mel))
    return hashlib.blake2b(repr(facts).encode(), digest_size=4).hexdigest()


def _mel(config: Config) -> MelConfig:
    return mel_config(config.get("preprocessing", {}))


def _build(config: Config, seed: int) -> LatentDiffusion:
    """A model whose initial weights follow from the seed; the caller's random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LatentDiffusion(**config["model"]["params"])


def _write_split(path: Path, data: Path, training: list[Any], validation: list[Any]) -> None:
    split = {
        name: sorted(str(r.path.relative_to(data)) for r in part)
        for name, part in (("training", training), ("validation", validation))
    }
    split["validation_sources"] = sorted({r.source for r in validation})
    path.write_text(json.dumps(split, indent=1))


def _load_finished(model: LatentDiffusion, out: Path, name: str, wanted: tuple[str, ...]) -> None:
    """Take a finished stage's averaged weights, which later stages build on."""
    path = out / f"{name}.pt"
    later = [s for s in wanted if STAGES.index(s) > STAGES.index(name)]
    if not path.is_file():
        if later:
            raise TrainingError(f"Stage {later[0]} needs {name} first: {path} does not exist.")
        return
    _set_weights(model, _read_checkpoint(path)["ema"])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise TrainingError(f"The checkpoint {path} cannot be read: {error}") from error


def _set_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    state = model.state_dict()
    if any(k not in state or state[k].shape != v.shape for k, v in weights.items()):
        raise TrainingError("A checkpoint is of another configuration; train into a new folder.")
    with torch.no_grad():
        for key, value in weights.items():
            state[key].copy_(value)


class _Loop:
    """One stage's steps."""

    def __init__(self, name: str, stage: Stage, out: Path, seed: int) -> None:
        self.name, self.stage, self.path = name, stage, out / f"{name}.pt"
        self.log = out / f"{name}.csv"
        self.config: StageConfig = stage.config
        wanted = {id(p) for module in stage.modules for p in module.parameters()}
        self.parameters = {key: p for key, p in stage.model.named_parameters() if id(p) in wanted}
        for key, p in stage.model.named_parameters():
            p.requires_grad_(key in self.parameters)
        self.ema = {key: p.detach().clone() for key, p in self.parameters.items()}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=self.config.learning_rate, betas=(0.9, 0.99)
        )
        tag = f"{seed}:{name}".encode()
        digest = hashlib.blake2b(tag, digest_size=7).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        self.step = 0
        self.fingerprint = json.dumps({"stage": asdict(self.config)}, sort_keys=True)

    def run(self, corpus: Corpus, resume: bool) -> Iterator[Progress]:
        """Step to the end, reporting and saving; leaves the averaged weights in place."""
        if resume and self.path.is_file():
            self._restore()
        self.stage.model.train()
        saved_at, sums, count = time.monotonic(), {}, 0
        while self.step < self.config.steps:
            for key, value in self._step(corpus).items():
                sums[key] = sums.get(key, 0.0) + float(value)
            count += 1
            if self.step % REPORT_STEPS == 0 or self.step == self.config.steps:
                figures = {key: value / count for key, value in sums.items()}
                self._write_log(figures)
                sums, count = {}, 0
                yield Progress(self.name, self.step, self.config.steps, figures)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                self._save()
                saved_at = time.monotonic()
        self._save()
        _set_weights(self.stage.model, self.ema)
        self.stage.model.eval()

    def _step(self, corpus: Corpus) -> dict[str, Tensor]:
        loss, logs = self.stage.loss(corpus, self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"{self.name}: the gradient is not finite at step {self.step}; the last checkpoint "
                "is kept. Lower the learning rate."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.step()
        self.step += 1
        # The average starts short, so that early exports are not the random start.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )
        return logs

    def _learning_rate(self) -> float:
        """Linear warm-up, then a half cosine down to a twentieth."""
        warmup = min(1.0, (self.step + 1) / max(1, self.config.warmup))
        decay = 0.525 + 0.475 * math.cos(math.pi * self.step / max(1, self.config.steps))
        return self.config.learning_rate * warmup * decay

    def _write_log(self, figures: dict[str, float]) -> None:
        new = not self.log.exists()
        with open(self.log, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *figures])
            writer.writerow([self.step, *(f"{value:.6g}" for value in figures.values())])

    def _save(self) -> None:
        state = {
            "step": self.step,
            "fingerprint": self.fingerprint,
            "weights": {key: p.detach() for key, p in self.parameters.items()},
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }
        if self.name == "diffusion":
            state["ema"] = {**self.ema, "scale_factor": self.stage.model.scale_factor}
        partial = self.path.with_suffix(".pt.part")
        try:
            torch.save(state, partial)
            os.replace(partial, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            raise TrainingError(
                f"The checkpoint {self.path} could not be written ({error}); the last good one is "
                "kept. Free some space and give --resume."
            ) from error

    def _restore(self) -> None:
        saved = _read_checkpoint(self.path)
        if saved["fingerprint"] != self.fingerprint:
            raise TrainingError(
                f"{self.path} was made with other settings of stage {self.name}; train into a new "
                "folder, or restore the preset."
            )
        _set_weights(self.stage.model, saved["weights"])
        with torch.no_grad():
            for key, average in self.ema.items():
                average.copy_(saved["ema"][key])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        self.step = saved["step"]
