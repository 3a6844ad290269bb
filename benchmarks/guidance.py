"""Quality against the number of steps and the diffusion times at which guidance acts.

    python benchmarks/guidance.py FOLDER --split split.json --weights MODEL

prints LSD above the cutoff and Zimtohrli, by ``lily evaluate``'s own cases and figures, of
recordings that a split holds out. ``MODEL`` is the folder of a model that takes several steps; the
bundled one was trained for a single one. Levels are not corrected and the encoder is off, so that
nothing but the sampler differs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import torch

from lily.checkpoints.resolve import resolve_config
from lily.cli.evaluate import _files
from lily.evaluation.run import evaluate
from lily.evaluation.settings import Case, Settings
from lily.inference.engine import InferenceEngine

CUTOFFS_HZ = (4_000.0, 8_000.0)
ALWAYS, HALF = (0, 1000), (250, 750)
# Steps, and the times of 1000 from and below which guidance acts.
ROWS = ((8, ALWAYS), (6, ALWAYS), (8, (0, 700)), (8, HALF), (6, HALF), (5, HALF), (4, HALF))
CORRECTIONS = ("level_db", "colour_db", "steady_share", "context_strength", "pair_memory")


def measure(options: argparse.Namespace, steps: int, guided: tuple[int, int]) -> dict[str, float]:
    """Mean figures of the model, its encoder off, by name and cutoff."""
    config = resolve_config(weights=options.weights)
    chosen = {key: v for key, v in config["inference"].items() if key not in CORRECTIONS}
    guidance = {"default": options.guidance, "min": 1.0, "max": 10.0}
    chosen |= {"guidance": guidance, "guided": list(guided), "temperature": 1.0}
    config["inference"] = chosen
    engine, found = InferenceEngine(config, "cpu"), {}
    for cutoff_hz in CUTOFFS_HZ:
        settings = Settings(
            (Case("lowpass", cutoff_hz),),
            seconds=options.seconds,
            steps=steps,
            encoder=(False,),
            judges=("zimtohrli",),
        )
        rows = [row for row in evaluate(engine, _files(options), settings) if row.system == "off"]
        for name in ("lsd_hf", "zimtohrli"):
            found[f"{name} {cutoff_hz:.0f}"] = fmean(row.figures[name] for row in rows)
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="full-band recordings")
    parser.add_argument("--weights", required=True, help="a model folder")
    parser.add_argument("--split", type=Path, required=True, help="of the training run")
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| steps | guided at | LSD-HF, 4 / 8 kHz | Zimtohrli, 4 / 8 kHz |\n|---|---|---|---|")
    for steps, guided in ROWS:
        found = measure(options, steps, guided)
        distances, scores = (
            " / ".join(f"{found[f'{name} {hz:.0f}']:.{digits}f}" for hz in CUTOFFS_HZ)
            for name, digits in (("lsd_hf", 3), ("zimtohrli", 2))
        )
        print(f"| {steps} | {guided[0]} to {guided[1]} | {distances} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
