"""Check what a training run is asked for before it starts; needs no torch."""

from __future__ import annotations

from pathlib import Path

from lily.config.presets import Config
from lily.config.training import STAGES, training_config
from lily.errors import InputError, TrainingError
from lily.training.recordings import find_recordings


def chosen_stages(stage: str, adapter: bool) -> tuple[str, ...]:
    """The stages that a name selects: one, or ``all``; raises InputError.

    An ``adapter`` is trained by the stage of the encoder alone.
    """
    if stage not in (*STAGES, "all"):
        raise InputError(f"Stage {stage!r} is not known; give {', '.join(STAGES)} or all.")
    if adapter and stage not in ("all", "encoder"):
        raise InputError(f"--train encoder is a stage of its own; leave out --stage {stage}.")
    if adapter:
        return ("encoder",)
    return STAGES if stage == "all" else (stage,)


def check_run(
    config: Config,
    data: Path,
    out: Path,
    stages: tuple[str, ...],
    *,
    resume: bool = False,
    base: str | None = None,
) -> None:
    """Raise TrainingError or InputError for a run that could not start, or not reach its end.

    The arguments are those of ``lily.training.train.train``.
    """
    if "training" not in config:
        raise TrainingError(f"Preset {config.get('name')!r} has no training section; add one.")
    training_config(config["training"])
    find_recordings(data)
    if not resume and any(out.glob("*.pt")):
        raise TrainingError(f"{out} already holds checkpoints; give --resume or another folder.")
    if base is not None:
        return
    for place, name in enumerate(STAGES):
        later = [stage for stage in stages if STAGES.index(stage) > place]
        path = out / f"{name}.pt"
        if name not in stages and later and not path.is_file():
            raise TrainingError(f"Stage {later[0]} needs {name} first: {path} does not exist.")


def shortened(config: Config, share: float) -> Config:
    """The recipe with a share of its steps and of its variants, at least one of each.

    Raises InputError unless 0 < ``share`` <= 1.
    """
    if not 0 < share <= 1:
        raise InputError(
            f"A share of {share:g} cannot be run; give more than 0 and at most 1, which is all."
        )
    recipe = dict(config.get("training", {}))
    for stage in set(STAGES) & recipe.keys():
        recipe[stage] = {**recipe[stage], "steps": max(1, round(share * recipe[stage]["steps"]))}
    if "variants" in recipe:
        recipe["variants"] = max(1, round(share * recipe["variants"]))
    return {**config, "training": recipe} if recipe else config
