"""Quality against evaluations: a preset's sampler at several counts, beside DDIM with many.

    python benchmarks/quality.py FOLDER --split split.json --limit 12 -o docs/images/quality.png

measures LSD above the cutoff with ``lily evaluate``'s own cases and figures on recordings that a
split holds out, prints a Markdown table and draws it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import matplotlib
import torch

from lily.cli.evaluate import _files
from lily.config.presets import load_config
from lily.evaluation.run import evaluate
from lily.evaluation.settings import Case, Settings
from lily.inference.engine import InferenceEngine

CUTOFF_HZ = 8_000.0
COUNTS = {"dpmpp2m": (1, 2, 4, 8, 20, 50), "ddim": (2, 20, 200)}


def measure(options: argparse.Namespace, sampler: str, steps: int) -> float:
    """Mean LSD-HF of the preset, its encoder on, over the recordings."""
    config = load_config(options.preset)
    config["inference"] = {**config["inference"], "sampler": sampler}
    engine = InferenceEngine(config, "cpu")
    case = Case("lowpass", CUTOFF_HZ)
    settings = Settings((case,), seconds=options.seconds, steps=steps, encoder=(True,))
    rows = evaluate(engine, _files(options), settings)
    return fmean(row.figures["lsd_hf"] for row in rows if row.system == "on")


def draw(found: dict[str, dict[int, float]], path: Path) -> None:
    """LSD-HF over evaluations, one line a sampler."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for sampler, values in found.items():
        axes.plot(list(values), list(values.values()), marker="o", label=sampler)
    axes.set_xscale("log")
    axes.set_xticks(sorted({n for values in found.values() for n in values}))
    axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the U-Net a chunk")
    axes.set_ylabel("LSD above 8 kHz")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="full-band recordings")
    parser.add_argument("--preset", default="lily-mini")
    parser.add_argument("--split", type=Path, required=True, help="of the training run")
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, float]] = {}
    print("| sampler | steps | LSD-HF |\n|---|---|---|")
    for sampler, counts in COUNTS.items():
        for steps in counts:
            value = found.setdefault(sampler, {})[steps] = measure(options, sampler, steps)
            print(f"| {sampler} | {steps} | {value:.3f} |", flush=True)
    draw(found, options.output)


if __name__ == "__main__":
    main()
