"""Put every malformed or odd recording through Lily and count what must not happen.

    python tests/robustness/fuzz.py                   all cases: decoder and pass 1
    python tests/robustness/fuzz.py --engine 40       and every 40th through the whole tiny engine
    python tests/robustness/fuzz.py --seed 7          other damage

A case ends well if it is measured, with a length that is exact, or refused in a sentence. Exits
with 1 if one does not.
"""

from __future__ import annotations

import argparse
import collections
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import soundfile
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from malformed import Case, cases  # noqa: E402

from lily.audio import sandbox  # noqa: E402
from lily.audio.read import read_blocks  # noqa: E402
from lily.checkpoints.folder_config import read_folder_config  # noqa: E402
from lily.checkpoints.model_folder import save_model_folder  # noqa: E402
from lily.config.presets import load_config  # noqa: E402
from lily.errors import LilyError  # noqa: E402
from lily.inference.analyze import analyze  # noqa: E402
from lily.inference.engine import InferenceEngine  # noqa: E402
from lily.inference.options import UpsampleOptions  # noqa: E402
from lily.model.latent_diffusion import LatentDiffusion  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "lily" / "assets" / "examples"
LONGEST_SENTENCE = 400  # characters: what a person reads


def tiny_folder(folder: Path) -> Path:
    """Save the tests' smallest model, its encoder awake, as a model folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        preset = load_config("tiny")
        model = LatentDiffusion(**preset["model"]["params"])
        for module in model.unet.conditioned():
            torch.nn.init.normal_(module.global_out.weight, std=0.5)
        save_model_folder(model, preset, folder, dtype=torch.float32)
    return folder


def tiny_engine(folder: Path) -> InferenceEngine:
    """An engine with that model."""
    return InferenceEngine(read_folder_config(tiny_folder(folder)), "cpu")


def complaint(text: str) -> str:
    """What is wrong with a sentence for a person; empty if nothing is."""
    if "Traceback" in text or 'File "' in text:
        return f"a traceback: {text[:200]}"
    if not text.strip() or len(text) > LONGEST_SENTENCE:
        return f"no sentence: {text[:200]!r}"
    return ""


def measured(engine: InferenceEngine, path: Path) -> str:
    """Measure a recording: "measured" or "refused"; raises AssertionError for a broken law."""
    try:
        found = analyze(path, engine.sample_rate, UpsampleOptions(seed=0))
    except LilyError as error:
        assert not complaint(str(error)), complaint(str(error))
        return "decoder failed" if "its decoder fail" in str(error) else "refused"
    frames = sum(block.shape[-1] for block in read_blocks(path))
    rate = found.info.sample_rate
    assert found.samples == -(-frames * 48_000 // rate), f"{frames} at {rate} Hz: {found.samples}"
    assert math.isfinite(found.peak) and math.isfinite(found.cutoff_hz), found
    return "measured"


def filled(engine: InferenceEngine, path: Path, out: Path) -> str:
    """Run the whole engine: "filled" or "refused", the output of the right shape or not there."""
    try:
        result = engine.run_inference(path, out, seed=0, steps=1)
    except LilyError as error:
        assert not complaint(str(error)), complaint(str(error))
        assert not out.exists() or not list(out.iterdir()), "a refused file left something behind"
        return "refused by the engine"
    info = soundfile.info(result.output)
    measured = analyze(path, engine.sample_rate, UpsampleOptions(seed=0))
    assert (info.frames, info.channels) == (measured.samples, measured.info.channels)
    assert info.samplerate == 48_000
    made = {path for path in (result.output, result.metadata) if path is not None}
    assert set(out.iterdir()) == made
    for path in made:
        path.unlink()
    return "filled"


def outcomes(
    engine: InferenceEngine, chosen: Iterable[Case], folder: Path, every: int = 0
) -> Iterator[tuple[Case, str]]:
    """What became of each case; "BROKEN: ..." is what must not happen."""
    files, out = folder / "files", folder / "out"
    files.mkdir(exist_ok=True)
    for number, case in enumerate(chosen):
        path = files / case.name
        path.write_bytes(case.data)
        try:
            told = measured(engine, path)
            if every and number % every == 0:
                told = filled(engine, path, out)
        except Exception as error:
            told = f"BROKEN: {type(error).__name__}: {error}"
        path.unlink()
        left = [entry.name for entry in files.iterdir()]
        yield case, f"BROKEN: left {left}" if left else told


def main() -> int:
    """Run the cases; print how many ended how."""
    parser = argparse.ArgumentParser(description="malformed and odd recordings through Lily")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="only every N-th case")
    parser.add_argument("--engine", type=int, default=0, help="every N-th through the whole engine")
    options = parser.parse_args()
    began, counts, broken = time.monotonic(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        engine = tiny_engine(Path(folder) / "model")
        list(read_blocks(EXAMPLES / "music.flac"))
        helper = sandbox._helpers[os.getpid()].process
        chosen = list(cases(options.seed))[:: options.step]
        for case, told in outcomes(engine, chosen, Path(folder), options.engine):
            counts[told.split(":")[0]] += 1
            if told.startswith("BROKEN"):
                broken.append(f"{case.name} ({case.kind}): {told}")
        if sandbox._helpers[os.getpid()].process is not helper:
            broken.append("the process that starts decoders ended and was started again")
    seconds = time.monotonic() - began
    print(f"{sum(counts.values())} cases in {seconds:.0f} s:", dict(counts))
    print(*broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
