"""One stage's steps: gradient, clip, AdamW, moving average; atomic checkpoints, exact resumption.

A checkpoint holds the stage's weights, their moving average, the optimiser, the step and every
process' generator, from which everything random in a step is drawn. A run continued with the same
number of threads and processes gives the bits of one never stopped.
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

from lily.config.training import StageConfig
from lily.errors import TrainingError
from lily.training.corpus import Corpus
from lily.training.parallel import World
from lily.training.stages import Stage

CHECKPOINT_SECONDS = 120.0  # what a power cut may cost
REPORT_STEPS = 20
VALIDATION_STEPS = 500
VALIDATION_BATCHES = 8
VALIDATION_SEED = 0  # the same batches and the same noise every time


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` steps or files of a stage, and its figures."""

    stage: str
    done: int
    total: int
    figures: dict[str, float]


class Loop:
    """Run one stage from its checkpoint, or from the start, to its last step."""

    def __init__(
        self,
        name: str,
        stage: Stage,
        out: Path,
        seed: int,
        world: World,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.name, self.stage, self.world = name, stage, world
        self.path, self.log = out / f"{name}.pt", out / f"{name}.csv"
        self.config: StageConfig = stage.config
        wanted = {id(p) for module in stage.modules for p in module.parameters()}
        self.parameters = {key: p for key, p in stage.model.named_parameters() if id(p) in wanted}
        for key, p in stage.model.named_parameters():
            p.requires_grad_(key in self.parameters)
        self.ema = {key: p.detach().clone() for key, p in self.parameters.items()}
        self.optimiser = torch.optim.AdamW(
            self._groups(), lr=self.config.learning_rate, betas=(0.9, 0.99)
        )
        tag = f"{seed}:{name}" + (f":{world.rank}" if world.rank else "")
        digest = hashlib.blake2b(tag.encode(), digest_size=7).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        self.step = 0
        self.precision = precision  # of the networks' products; weights and sums are float32
        facts = {"stage": asdict(self.config), "processes": world.size}
        if precision is not torch.float32:  # else as it always was: older checkpoints go on
            facts["precision"] = str(precision)
        self.fingerprint = json.dumps(facts, sort_keys=True)
        self.seconds = {"data": 0.0, "compute": 0.0}  # where the time of a report went
        self.validated: dict[str, float] = {}  # the last figures on what is held out

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate: a stage may train some of its layers more slowly."""
        slow = {id(p) for module in self.stage.slow for p in module.parameters()}
        groups = []
        for scale, chosen in ((1.0, False), (self.stage.slowness, True)):
            parameters = [p for p in self.parameters.values() if (id(p) in slow) is chosen]
            if parameters:
                groups.append({"params": parameters, "scale": scale})
        return groups

    def run(self, corpus: Corpus, validation: Corpus | None, resume: bool) -> Iterator[Progress]:
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
                figures |= {f"{k}_seconds": v / count for k, v in self.seconds.items()}
                self.seconds = dict.fromkeys(self.seconds, 0.0)
                if validation and self.step % VALIDATION_STEPS == 0:
                    self.validated = self._validate(validation)
                figures |= self.validated
                self._write_log(figures)
                sums, count = {}, 0
                yield Progress(self.name, self.step, self.config.steps, figures)
                # Only here, so that every process saves at the same step.
                if self._agreed(time.monotonic() - saved_at > CHECKPOINT_SECONDS):
                    self._save()
                    saved_at = time.monotonic()
        self._save()
        set_weights(self.stage.model, self.ema)
        self.stage.model.eval()

    def _agreed(self, wish: bool) -> bool:
        """What process 0 wishes."""
        return bool(self.world.gather(torch.tensor([int(wish)]))[0])

    def _step(self, corpus: Corpus) -> dict[str, Tensor]:
        began = time.perf_counter()
        batch = self.stage.batch(corpus, self.generator)
        drawn = time.perf_counter()
        mixed = self.precision is not torch.float32
        with torch.autocast(self.stage.device.type, self.precision, enabled=mixed):
            loss, logs = self.stage.loss(batch, self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        self.world.average_gradients(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"{self.name}: the gradient is not finite at step {self.step}; the last checkpoint "
                "is kept. Lower the learning rate."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate() * group["scale"]
        self.optimiser.step()
        self.step += 1
        # The average starts short, so that early exports are not the random start.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )
        self.seconds["data"] += drawn - began
        self.seconds["compute"] += time.perf_counter() - drawn
        return logs

    def _validate(self, corpus: Corpus) -> dict[str, float]:
        """Mean figures of the averaged weights on batches that are always the same."""
        trained = {key: p.detach().clone() for key, p in self.parameters.items()}
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        set_weights(self.stage.model, self.ema)
        self.stage.model.eval()
        sums: dict[str, float] = {}
        with torch.no_grad():
            for _ in range(VALIDATION_BATCHES):
                batch = self.stage.batch(corpus, generator)
                for key, value in self.stage.validate(batch, generator).items():
                    sums[key] = sums.get(key, 0.0) + float(value) / VALIDATION_BATCHES
        self.stage.model.train()
        set_weights(self.stage.model, trained)
        return sums

    def _learning_rate(self) -> float:
        """Linear warm-up, then a half cosine down to a twentieth."""
        warmup = min(1.0, (self.step + 1) / max(1, self.config.warmup))
        decay = 0.525 + 0.475 * math.cos(math.pi * self.step / max(1, self.config.steps))
        return self.config.learning_rate * warmup * decay

    def _write_log(self, figures: dict[str, float]) -> None:
        if not self.world.is_first:
            return
        new = not self.log.exists()
        with open(self.log, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "figure", "value"])
            writer.writerows([self.step, key, f"{value:.6g}"] for key, value in figures.items())

    def _save(self) -> None:
        generators = self.world.gather(self.generator.get_state())
        if not self.world.is_first:
            return
        state = {
            "step": self.step,
            "fingerprint": self.fingerprint,
            "weights": {key: p.detach() for key, p in self.parameters.items()},
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
            "generators": generators,
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
        saved = read_checkpoint(self.path)
        if saved["fingerprint"] != self.fingerprint:
            raise TrainingError(
                f"{self.path} was made with other settings of stage {self.name}; train into a new "
                "folder, or restore the preset, the precision and the number of processes."
            )
        set_weights(self.stage.model, saved["weights"])
        with torch.no_grad():
            for key, average in self.ema.items():
                average.copy_(saved["ema"][key])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generators"][self.world.rank])
        self.step = saved["step"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a stage's checkpoint; raises TrainingError if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise TrainingError(f"The checkpoint {path} cannot be read: {error}") from error


def set_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy a stage's tensors into the model; raises TrainingError unless all of them fit."""
    state = model.state_dict()
    if any(k not in state or state[k].shape != v.shape for k, v in weights.items()):
        raise TrainingError("A checkpoint is of another configuration; train into a new folder.")
    with torch.no_grad():
        for key, value in weights.items():
            state[key].copy_(value)
