"""Restore the model card's listening examples from their references, and draw them.

    python docs/images/listening.py

Run it again when the bundled model changes. Each ``<name>.reference.ogg`` beside the weights is
low-passed by an 8th-order Butterworth filter, one of them in a part only, and restored with the
encoder off and on at default settings, seed 1, the cutoff given.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from panels import panels

from lily import InferenceEngine, load_config
from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.checkpoints.resolve import bundled_folder
from lily.dsp.degrade import LowpassSpec, apply_lowpass
from lily.inference.options import UpsampleOptions

FOLDER = bundled_folder("lily-mini")
CUTOFFS_HZ = {"speech": 4_000, "music": 8_000, "drums": 8_000, "instruments": 12_000}
CHANGING_HZ, FULL_HZ, CHANGES_AT = 4_000, 23_000, 8.0  # from this second on it is narrow
RATE, SEED, ORDER = 48_000, 1, 8
VORBIS_LEVEL = 0.5  # of soundfile's compression: about 80 kbit/s for one channel
TITLES = {"input": "Input", "off": "Encoder off", "on": "Encoder on", "reference": "As recorded"}


def main() -> None:
    """Write input, off and on of every example, and a picture of all four."""
    engine = InferenceEngine(load_config("lily-mini"))
    for name in (*CUTOFFS_HZ, "changing"):
        reference = read_audio(FOLDER / f"{name}.reference.ogg", RATE)
        cutoff = CUTOFFS_HZ.get(name, CHANGING_HZ)
        low = apply_lowpass(reference, LowpassSpec("butter", ORDER, cutoff), RATE)
        cutoffs: float | tuple[tuple[float, float], ...] = cutoff
        if name == "changing":
            cutoffs = ((0.0, FULL_HZ), (CHANGES_AT, CHANGING_HZ))
            wide = torch.arange(low.shape[-1]) < CHANGES_AT * RATE
            low = torch.where(wide, reference, low)
        with tempfile.TemporaryDirectory() as folder:
            restore(engine, Path(folder), name, low, cutoffs)
        draw(name, cutoff)


def restore(
    engine: InferenceEngine,
    folder: Path,
    name: str,
    low: torch.Tensor,
    cutoffs: float | tuple[tuple[float, float], ...],
) -> None:
    """Write the Ogg files of one example, whose recording is ``low`` (C, T)."""
    write_audio(folder / "clip.wav", low, RATE)
    options = UpsampleOptions(seed=SEED, cutoff_hz=cutoffs)
    *_, _ = engine.compare(folder / "clip.wav", folder / "out", options)
    vorbis(FOLDER / f"{name}.input.ogg", low)
    for kind in ("off", "on"):
        vorbis(FOLDER / f"{name}.{kind}.ogg", read_audio(folder / "out" / f"clip.{kind}.wav"))


def vorbis(path: Path, samples: torch.Tensor) -> None:
    """Write samples (C, T) as Ogg Vorbis."""
    with soundfile.SoundFile(
        path, "w", RATE, len(samples), "VORBIS", format="OGG", compression_level=VORBIS_LEVEL
    ) as file:
        for first in range(0, samples.shape[1], RATE):  # libvorbis overflows on long blocks
            file.write(np.ascontiguousarray(samples[:, first : first + RATE].T.numpy()))


def draw(name: str, cutoff_hz: float) -> None:
    """Draw the four spectrograms of an example on one scale."""
    files = {FOLDER / f"{name}.{kind}.ogg": title for kind, title in TITLES.items()}
    figure = panels(files, cutoff_hz, size=(13, 3.2))
    figure.savefig(FOLDER / f"{name}.png", dpi=75)
    plt.close(figure)


if __name__ == "__main__":
    main()
