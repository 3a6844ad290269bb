"""Check that the tests notice deliberate faults in the code, one at a time.

    python tests/mutants.py                 # every mutant; about half an hour on two cores
    python tests/mutants.py crossover noise # those whose names contain one of the words

Each mutant replaces one expression in a copy of the tree and runs the tests that are meant to
notice it. "SURVIVED" means that none did; the exit code is then 1. "NO MATCH" means that the code
has changed and the mutant must be rewritten.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 900  # of one mutant's tests; a mutant that hangs counts as noticed


class Mutant(NamedTuple):
    """A fault: ``old`` in ``file`` becomes ``new``; ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    # fmt: off
    Mutant(
        "crossfade middle one frame late",
        "lily/dsp/chunks.py",
        "(earlier.stop - overlap / 2) * frames_per_unit",
        "(earlier.stop - overlap / 2 + 1) * frames_per_unit",
        "tests/dsp/test_chunks.py",
    ),
    Mutant(
        "crossfade shifted by half a frame",
        "lily/dsp/chunks.py",
        "chunk.start * frames_per_unit + 0.5",
        "chunk.start * frames_per_unit + 0.0",
        "tests/dsp/test_chunks.py",
    ),
    Mutant(
        "noise hash salted differently",
        "lily/diffusion/noise.py",
        'repr(("lily", kind, self.seed, *place))',
        'repr(("lily2", kind, self.seed, *place))',
        "tests/diffusion",
    ),
    Mutant(
        "noise of latents and vocoder shares its hash",
        "lily/diffusion/noise.py",
        'repr(("lily", kind, self.seed, *place))',
        'repr(("lily", self.seed, *place))',
        "tests/diffusion",
    ),
    Mutant(
        "bandwidth counts fewer loud frames",
        "lily/bandwidth/statistics.py",
        "EXCEEDED = 0.005",
        "EXCEEDED = 0.02",
        "tests/bandwidth",
    ),
    Mutant(
        "full band from 18.5 kHz",
        "lily/dsp/cutoffs.py",
        "FULL_BAND_HZ = 20_000.0",
        "FULL_BAND_HZ = 18_500.0",
        "tests/dsp tests/bandwidth tests/inference/test_engine.py",
    ),
    Mutant(
        "edges of 12 dB", "lily/bandwidth/cutoff.py", "(4, 19.0)", "(4, 12.0)", "tests/bandwidth"
    ),
    Mutant(
        "edges placed by wide windows",
        "lily/bandwidth/cutoff.py",
        "SHARPNESS = 1.4",
        "SHARPNESS = 0.2",
        "tests/bandwidth",
    ),
    Mutant(
        "segments narrow at 16 dB",
        "lily/bandwidth/segments.py",
        "NARROW_DB = 26.0",
        "NARROW_DB = 16.0",
        "tests/bandwidth",
    ),
    Mutant(
        "null test passes at 10 dB",
        "lily/certify/output_meter.py",
        "NULL_DB = 60.0",
        "NULL_DB = 10.0",
        "tests/certify",
    ),
    Mutant(
        "level may change by 1 dB",
        "lily/certify/output_meter.py",
        "LEVEL_DB = 0.01",
        "LEVEL_DB = 1.0",
        "tests/certify",
    ),
    Mutant(
        "DC may change by 0.01",
        "lily/certify/output_meter.py",
        "DC = 1e-5 ",
        "DC = 1e-2 ",
        "tests/certify",
    ),
    Mutant(
        "seams may differ by half",
        "lily/certify/output_meter.py",
        "SEAM = 0.05",
        "SEAM = 0.5",
        "tests/certify",
    ),
    Mutant(
        "correlation may change by half",
        "lily/certify/output_meter.py",
        "CORRELATION = 0.001",
        "CORRELATION = 0.5",
        "tests/certify",
    ),
    Mutant(
        "true peak oversampled twice",
        "lily/certify/true_peak.py",
        "OVERSAMPLING = 4",
        "OVERSAMPLING = 2",
        "tests/certify",
    ),
    Mutant(
        "resampler of 48 crossings",
        "lily/audio/resample.py",
        "SHARP_CROSSINGS = 128",
        "SHARP_CROSSINGS = 48",
        "tests/audio/test_resample.py",
    ),
    Mutant(
        "resampler of 128 phases",
        "lily/audio/resample.py",
        "TABLE_PHASES = 1024",
        "TABLE_PHASES = 128",
        "tests/audio/test_resample.py",
    ),
    Mutant(
        "crossover from 0.8",
        "lily/dsp/splice.py",
        "CROSSOVER_START = 0.9",
        "CROSSOVER_START = 0.8",
        "tests/dsp/test_splice.py tests/inference/test_engine.py",
    ),
    Mutant(
        "vocoder halo of 16 frames",
        "lily/model/vocoder.py",
        "HALO = 24",
        "HALO = 16",
        "tests/model tests/inference/test_vocode.py",
    ),
    Mutant(
        "segments joined over two samples",
        "lily/dsp/cutoffs.py",
        "FADE = 960",
        "FADE = 2",
        "tests/dsp",
    ),
    Mutant(
        "bootstrap interval of 60 %",
        "lily/evaluation/statistics.py",
        "LEVEL = 0.95",
        "LEVEL = 0.60",
        "tests/evaluation/test_statistics.py",
    ),
    Mutant(
        "LSD clamped at 1e-11",
        "lily/evaluation/metrics.py",
        "POWER_CLAMP = 1e-8",
        "POWER_CLAMP = 1e-11",
        "tests/evaluation/test_metrics.py",
    ),
    Mutant(
        "another unconditional latent",
        "lily/model/latent_diffusion.py",
        "UNCONDITIONAL = -11.4981",
        "UNCONDITIONAL = -9.0",
        "tests/inference/test_parity.py tests/model/test_latent_diffusion.py",
    ),
    Mutant(
        "two models in memory",
        "lily/ui/shelf.py",
        'self._engine, self._name = None, ""  # two models are never in memory together',
        "pass",
        "tests/ui/test_run.py tests/ui/test_page.py",
    ),
    Mutant(
        "page serves files by address",
        "lily/ui/guard.py",
        'if "/file=http" in path or',
        'if False and "/file=http" in path or',
        "tests/ui/test_guard.py",
    ),
    Mutant(
        "crossover not compensated",
        "lily/dsp/known_band.py",
        "- (1 - share).clamp(min=LEAST_SHARE).log()",
        "- 0.0 * share",
        "tests/dsp/test_known_band.py",
    ),
    Mutant(
        "recorded power ignored in the crossover",
        "lily/dsp/known_band.py",
        "(-taken.clamp(max=MOST_RECORDED)).log1p() / 2",
        "0.0 * taken",
        "tests/dsp/test_known_band.py",
    ),
    Mutant(
        "borrowed pairs not tested",
        "lily/dsp/pair_memory.py",
        "trust = trust / (1 + (missed_db / MISSED_DB) ** MISSED_STEEPNESS)",
        "trust = trust / 1",
        "tests/dsp/test_pair_memory.py",
    ),
    Mutant(
        "the encoder guesses in full at every cutoff",
        "lily/inference/runtime.py",
        "if not table or cutoffs.distinct_hz[-1] >= KNOWS_FROM * cutoffs.lowest_hz:",
        "if True:",
        "tests/inference/test_context_strength.py",
    ),
    Mutant(
        "lines at more power",
        "lily/model/carrier_vocoder.py",
        "return tilted + (before - power) / 2",
        "return tilted",
        "tests/model/test_carrier_vocoder.py",
    ),
    Mutant(
        "pauses steadied too",
        "lily/dsp/steady_level.py",
        "shift += (self.share * (FOLLOWED * top - made)).clamp(-most, most) * here",
        "shift += self.share * (FOLLOWED * top - made) * here",
        "tests/dsp/test_steady_level.py",
    ),
    Mutant(
        "clear lags are drawn",
        "lily/dsp/carriers.py",
        "torch.where(self.peak > CLEAR, self.lag, lag)",
        "lag",
        "tests/dsp/test_carriers.py",
    ),
    Mutant(
        "lag not refined",
        "lily/dsp/lag.py",
        "return torch.where(clear, whole + left * (WINDOW / HOP), lag)",
        "return lag",
        "tests/dsp/test_carriers.py",
    ),
    Mutant(
        "pauses not silenced",
        "lily/inference/generate.py",
        "return restored.masked_fill_(silent, LOG_FLOOR)",
        "return restored",
        "tests/inference",
    ),
    Mutant(
        "every chunk's query time is 0 s",
        "lily/inference/sample.py",
        "torch.tensor([item.start for item in batch], dtype=torch.float64)",
        "torch.tensor([0 * item.start for item in batch], dtype=torch.float64)",
        "tests/inference/test_sample.py",
    ),
    Mutant(
        "query times in latent frames",
        "lily/inference/sample.py",
        "for item in batch], dtype=torch.float64) * LATENT_SECONDS",
        "for item in batch], dtype=torch.float64)",
        "tests/inference/test_sample.py",
    ),
    Mutant(
        "vocoder noise not shifted by its halo",
        "lily/inference/vocode.py",
        "place = (self._next - HALO) * self.hop, count",
        "place = self._next * self.hop, count",
        "tests/inference",
    ),
    Mutant(
        "short batches not padded",
        "lily/inference/sample.py",
        "return [*places, *[places.start] * (self.batch - len(places))]",
        "return [*places]",
        "tests/inference",
    ),
    Mutant(
        "guidance outside its interval",
        "lily/inference/sample.py",
        "return self.guidance if first <= time < end else 1.0",
        "return self.guidance",
        "tests/inference",
    ),
    Mutant(
        "damaged chunks are used",
        "lily/inference/resume.py",
        "if checksum != self._checksum(path, body):",
        "if False:",
        "tests/inference/test_resume.py",
    ),
    Mutant(
        "decoder may write files", "lily/audio/sandbox.py", '"RLIMIT_FSIZE": 0, ', "", "tests/audio"
    ),
    Mutant(
        "FFmpeg may open addresses",
        "lily/audio/ffmpeg.py",
        'PROTOCOLS = "none"',
        'PROTOCOLS = "file,http,tcp,concat,subfile,data"',
        "tests/audio/test_ffmpeg.py",
    ),
    Mutant(
        "FFmpeg may read playlists",
        "lily/audio/ffmpeg.py",
        '"3dostr,4xm,',
        '"hls,concat,3dostr,4xm,',
        "tests/audio/test_ffmpeg.py",
    ),
    # Others, where the list above does not reach.
    Mutant(
        "guidance off by one",
        "lily/diffusion/guidance.py",
        "return unconditional + guidance *",
        "return conditional + guidance *",
        "tests/diffusion/test_guidance.py",
    ),
    Mutant(
        "second order without its weight",
        "lily/diffusion/samplers.py",
        "(width / last_width / 2)",
        "(width / 2)",
        "tests/diffusion",
    ),
    Mutant(
        "rotary angles in float32",
        "lily/model/rotary.py",
        "times.double()[..., None]",
        "times.float()[..., None]",
        "tests/model",
    ),
    Mutant(
        "highs only keeps the lows",
        "lily/audio/mix.py",
        "yield gain * (made - kept)",
        "yield gain * made",
        "tests/audio tests/ui/test_mixes.py",
    ),
    Mutant(
        "energy distance without the spread of its draws",
        "lily/training/losses.py",
        "return 2 * plain - distance(y1, y2), plain.detach()",
        "return 2 * plain, plain.detach()",
        "tests/training",
    ),
    Mutant(
        "noise baseline louder",
        "lily/evaluation/baselines.py",
        "NOISE_LOG_BIAS = 0.25",
        "NOISE_LOG_BIAS = 0.0",
        "tests/evaluation",
    ),
    Mutant(
        "pairs are believed at any distance",
        "lily/dsp/pair_memory.py",
        "trust = 1 / (1 + (distance / TRUSTED) ** STEEPNESS)",
        "trust = torch.ones_like(distance)",
        "tests/dsp/test_pair_memory.py",
    ),
    Mutant(
        "levels are added to silence",
        "lily/dsp/level.py",
        "+= sounding * decibels[:, None] / NEPER_DB",
        "+= decibels[:, None] / NEPER_DB",
        "tests/dsp/test_level.py",
    ),
    # fmt: on
)


def main(words: list[str]) -> int:
    """Run the mutants whose names contain one of the words, or all; 1 if one survived."""
    survived = 0
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__"))
        for mutant in chosen:
            result = run(tree, mutant)
            survived += result != "killed"
            print(f"{result:9} {mutant.name}", flush=True)
    return int(survived > 0)


def run(tree: Path, mutant: Mutant) -> str:
    """Run one mutant's tests in the copy ``tree``, which is restored afterwards."""
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text.count(mutant.old) != 1:
        return "NO MATCH"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-xq", "-m", "not gpu", "-p", "no:cacheprovider"]
    try:
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            [*command, *mutant.tests.split()],
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        path.write_text(text, encoding="utf-8")
    return {0: "SURVIVED", 1: "killed"}.get(done.returncode, f"exit {done.returncode}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="parts of the names of mutants to run")
    sys.exit(main(parser.parse_args().words))
