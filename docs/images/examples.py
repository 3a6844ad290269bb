"""Restore the page's examples and write what the player shows of them.

    python docs/images/examples.py

Run it again when the bundled model changes. Of every recording in ``lily/assets/examples`` it
writes the recording and the generated highs at 48 kHz as Ogg Vorbis, two spectrograms and a JSON
file with the rest. What is played is the sum of both, so that the level of the highs can be set.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from lily import InferenceEngine, load_config
from lily.audio.read import read_audio
from lily.inference.events import Finished
from lily.inference.options import UpsampleOptions
from lily.ui.examples import FOLDER, RECORDINGS, TITLES
from lily.ui.overview import overview
from lily.ui.report import command, segments_of, summary
from lily.ui.request import Request

SEED = 7
VORBIS_LEVEL = 0.5  # of soundfile's compression: about 80 kbit/s for one channel
RATE = 48_000


def main() -> None:
    """Restore every example with the bundled model at its defaults."""
    engine = InferenceEngine(load_config("lily-mini"))
    for name, path in RECORDINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            restore(engine, name, path, Path(folder))


def restore(engine: InferenceEngine, name: str, path: Path, folder: Path) -> None:
    """Write the files of one example."""
    *_, last = engine.stream(path, folder, UpsampleOptions(seed=SEED))
    assert isinstance(last, Finished)
    result, before = last.result, read_audio(path, RATE).numpy()
    after = read_audio(result.output).numpy()
    soundfile.write(folder / "before.wav", before.T, RATE, subtype="PCM_24")
    for kind, samples in (("before", before), ("highs", after - before)):
        with soundfile.SoundFile(
            FOLDER / f"{name}.{kind}.ogg",
            "w",
            RATE,
            samples.shape[0],
            "VORBIS",
            format="OGG",
            compression_level=VORBIS_LEVEL,
        ) as file:
            for first in range(0, samples.shape[1], RATE):  # libvorbis overflows on long blocks
                file.write(np.ascontiguousarray(samples[:, first : first + RATE].T))
    views = {
        "before": overview(folder / "before.wav", result.seconds, FOLDER / f"{name}.before.webp"),
        "after": overview(result.output, result.seconds, FOLDER / f"{name}.after.webp"),
    }
    stored = {
        "title": TITLES[name],
        "summary": summary(result),
        "seed": SEED,
        "seconds": result.samples / RATE,
        "cutoffs": segments_of(result),
        "command": command(Request(path, "lily-mini"), result),
        "peaks": {key: view.peaks for key, view in views.items()},
    }
    text = json.dumps(stored, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
