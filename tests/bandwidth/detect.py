"""Print how well cutoffs, segments and codecs are detected, as the tables of docs/method.md.

    python tests/bandwidth/detect.py FOLDER [--joins N] [--first ROW] [--stop ROW] [--only PART]
        [--draws SEED]

FOLDER holds full-band recordings at 48 kHz. A CREDITS.tsv in it (columns ``file`` and
``bandwidth_hz``) gives the bandwidth of each; without it, each is measured alone. Joins put 10 to
20 s of one recording, or of several, behind each other, some parts made narrow by one of Lily's own
degradations. All draws are seeded.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from lily.audio.read import AudioInfo, read_audio
from lily.bandwidth.diagnosis import diagnose
from lily.bandwidth.meter import BandwidthMeter
from lily.bandwidth.statistics import Segments
from lily.dsp.codec import CodecSpec, mp3, random_codec, round_trip
from lily.dsp.degrade import IIR_FAMILIES, LowpassSpec, apply_lowpass, random_lowpass
from lily.dsp.filters import filter_whole, lowpass_kernel

RATE = 48_000
NARROW_HZ = (3_000.0, 13_000.0)
NEAR_SECONDS = 3.0  # a boundary is found if one is detected this near
DISTINCT = 1.2  # ratio of two cutoffs from which a boundary is expected between them
Recordings = dict[Path, float]  # bandwidth of each, Hz
Narrowed = tuple[Tensor, float]


def meter_of(x: Tensor) -> BandwidthMeter:
    meter = BandwidthMeter()
    for block in x.split(65_536, dim=-1):
        meter.push(block)
    return meter


def recordings(folder: Path) -> Recordings:
    table = folder / "CREDITS.tsv"
    if table.exists():
        with table.open(encoding="utf-8") as lines:
            rows = csv.DictReader(lines, delimiter="\t")
            return {folder / row["file"]: float(row["bandwidth_hz"]) for row in rows}
    paths = sorted(p for p in folder.rglob("*") if p.suffix in {".wav", ".flac", ".ogg"})
    return {path: meter_of(read_audio(path)).result().cutoff_hz for path in paths}


def rounded(x: Tensor, generator: torch.Generator, peak_db: float = -20.0) -> Tensor:
    gain = 10 ** (peak_db / 20) / float(x.abs().max().clamp(min=1e-9))
    dither = torch.rand(2, *x.shape, generator=generator)
    return (x * gain * 2**15 + dither[0] - dither[1]).round() / (gain * 2**15)


def resampled(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    hz = round(rng.uniform(*NARROW_HZ) / 50) * 50.0
    return apply_lowpass(x, LowpassSpec("resample", 2, hz), RATE), hz


def resampled_16(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    low, hz = resampled(x, rng, generator)
    return rounded(low, generator), hz


def steep(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    hz = rng.uniform(*NARROW_HZ)
    return filter_whole(x, lowpass_kernel(0.97 * hz, 1.03 * hz, RATE)), hz


def butterworth(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    hz = rng.uniform(*NARROW_HZ)
    return apply_lowpass(x, LowpassSpec("butter", 8, hz), RATE), hz


def any_filter(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    spec = random_lowpass(generator, NARROW_HZ, IIR_FAMILIES)
    return apply_lowpass(x, spec, RATE), spec.cutoff_hz


def any_codec(x: Tensor, rng: random.Random, generator: torch.Generator) -> Narrowed:
    made = round_trip(x, random_codec(generator))
    return made, meter_of(made).result().cutoff_hz


KINDS: dict[str, Callable[[Tensor, random.Random, torch.Generator], Narrowed]] = {
    "resampled": resampled,
    "resampled, 16 bits at -20 dBFS": resampled_16,
    "steep low-pass": steep,
    "Butterworth 8, both ways": butterworth,
    "codec, low rate": any_codec,
    "any IIR, order 2 to 10, both ways": any_filter,
}


def untouched(folder: Recordings) -> None:
    alone, low, false, hours = 0, [], 0, 0.0
    for path, hz in folder.items():
        x = read_audio(path)
        meter = meter_of(x)
        found = meter.segments()
        hours += x.shape[-1] / RATE / 3600
        alone += len(found) == 1
        false += len(found) - 1
        low += [meter.result().cutoff_hz / hz]
    print(
        f"untouched: {alone} of {len(folder)} are one segment, {false / hours:.1f} false "
        f"boundaries an hour ({hours:.2f} h); cutoff / bandwidth {min(low):.3f} to {max(low):.3f}"
    )


def parts(folder: Recordings, kind: str, rng: random.Random, g: torch.Generator) -> Iterator:
    """Yield signal, cutoff in Hz and whether it is narrow, of the two or three parts of a join."""
    order = rng.choice(["wn", "nw", "wnw", "nwn"])
    paths = rng.choices(list(folder), k=3)
    same = rng.random() < 0.5
    whole = read_audio(paths[0])
    if same and whole.shape[-1] < 8 * RATE * len(order):
        order = order[:2]
    for index, what in enumerate(order):
        if same:
            length = whole.shape[-1] // len(order)
            x, hz = whole[:, index * length : (index + 1) * length], folder[paths[0]]
        else:
            x = read_audio(paths[index])[:, : int(rng.uniform(10, 20) * RATE)]
            hz = folder[paths[index]]
        if what == "n":
            x, hz = KINDS[kind](x, rng, g)
        yield x, hz, what == "n"


def clean(x: Tensor, narrow: list[Narrowed], rng: random.Random, g: torch.Generator) -> Tensor:
    return x


def _level(part: Tensor, hz: float) -> float:
    """Return the level of white noise that is as loud as a part just below its cutoff."""
    bins = torch.fft.rfftfreq(part.shape[-1], 1 / RATE)
    power = torch.fft.rfft(part).abs().square().mean(dim=0)
    band = (bins > hz / 2 ** (1 / 3)) & (bins < 0.95 * hz)
    return float((power[band].mean() / part.shape[-1]).sqrt())


def hiss(low_db: float, high_db: float) -> Callable[..., Tensor]:
    """Return a function that adds white noise at ``low_db`` to ``high_db`` under the music.

    The levels are compared in the third of an octave below the cutoff, in the quietest narrow part.
    """

    def add(x: Tensor, narrow: list[Narrowed], rng: random.Random, g: torch.Generator) -> Tensor:
        level = min(_level(*part) for part in narrow) * 10 ** (-rng.uniform(low_db, high_db) / 20)
        return x + level * torch.randn(1, x.shape[-1], generator=g)

    return add


def crackle(x: Tensor, narrow: list[Narrowed], rng: random.Random, g: torch.Generator) -> Tensor:
    """Add 0.5 to 10 clicks a second of 0.06 to 0.2: single samples, or fading within 1 ms."""
    count = max(1, int(rng.uniform(0.5, 10) * x.shape[-1] / RATE))
    impulses = torch.zeros(1, x.shape[-1])
    sizes = (0.06 + 0.14 * torch.rand(count, generator=g)) * torch.randn(count, generator=g).sign()
    impulses[0, torch.randint(0, x.shape[-1], (count,), generator=g)] = sizes
    shape = torch.exp(-torch.arange(48) / rng.choice([0.1, 2.0, 5.0]))
    fading = torch.nn.functional.pad(impulses, (47, 0))[None]
    return x + torch.nn.functional.conv1d(fading, shape.flip(0)[None, None])[0]


ADDED = {
    "nothing": clean,
    "hiss 20 to 40 dB under the band": hiss(20, 40),
    "hiss 10 to 20 dB under it": hiss(10, 20),
    "crackle, 0.5 to 10 a second": crackle,
}


class Tally:
    """Counts over joins: boundaries found and not, and the cutoffs of the parts."""

    def __init__(self) -> None:
        self.expected = self.extra = 0
        self.errors: list[float] = []
        self.narrow: list[float] = []
        self.wide: list[float] = []
        self.hours = 0.0

    def add(self, truth: list[tuple[float, float, bool]], found: Segments, seconds: float) -> None:
        self.hours += seconds / 3600
        detected = [start for start, _ in found[1:]]
        self.expected += len(truth) - 1
        for start, _, _ in truth[1:]:
            nearest = min(detected, key=lambda second: abs(second - start), default=None)
            if nearest is not None and abs(nearest - start) < NEAR_SECONDS:
                detected.remove(nearest)
                self.errors.append(abs(nearest - start))
        self.extra += len(detected)
        if len(found) == len(truth):
            for (_, hz, is_narrow), (_, found_hz) in zip(truth, found, strict=True):
                (self.narrow if is_narrow else self.wide).append(found_hz / hz)


def made_joins(
    folder: Recordings, kind: str, count: int, add: Callable[..., Tensor] = clean, seed: str = ""
) -> Iterator[tuple[Tensor, list[tuple[float, float, bool]]]]:
    """Yield signals (1, T) and their parts as (start in seconds, cutoff in Hz, narrow)."""
    rng, g = random.Random(kind + seed), torch.Generator().manual_seed(7)
    dirt, noise = random.Random(seed), torch.Generator().manual_seed(8)
    for _ in range(count):
        truth, signals, narrow, place = [], [], [], 0.0
        for x, hz, is_narrow in parts(folder, kind, rng, g):
            if not truth or max(hz, truth[-1][1]) > DISTINCT * min(hz, truth[-1][1]):
                truth.append((place, hz, is_narrow))
            place += x.shape[-1] / RATE
            signals.append(x)
            narrow += [(x, hz)] * is_narrow
        yield add(torch.cat(signals, dim=-1), narrow, dirt, noise), truth


def joins(folder: Recordings, kind: str, count: int) -> None:
    tally = Tally()
    for x, truth in made_joins(folder, kind, count):
        tally.add(truth, meter_of(x).segments(), x.shape[-1] / RATE)
    median, most = np.median(tally.errors), np.quantile(tally.errors, 0.95)
    close = np.mean(np.abs(np.array(tally.narrow) - 1) <= 0.05)
    wide = np.array(tally.wide)
    under = f"{np.sum(wide < 0.95)} of {len(wide)}, lowest {wide.min():.2f}"
    print(
        f"| {kind} | {len(tally.errors)} of {tally.expected} | {median:.2f}, {most:.2f} "
        f"| {tally.extra / tally.hours:.1f} | {close:.0%} of {len(tally.narrow)} | {under} |",
        flush=True,
    )


def dirty_joins(folder: Recordings, count: int, draws: str) -> None:
    """Print how many boundaries of joins are found where something is added over the whole."""
    for name, add in ADDED.items():
        tally = Tally()
        for kind in ("resampled", "steep low-pass"):
            for x, truth in made_joins(folder, kind, count, add, seed=draws):
                tally.add(truth, meter_of(x).segments(), x.shape[-1] / RATE)
        print(f"| {name} | {len(tally.errors)} of {tally.expected} | {tally.extra} |", flush=True)


def aac(x: Tensor, kbps: float) -> Tensor:
    """Encode to AAC and decode with FFmpeg (C, T), C = 1; the delay stays."""
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=RATE)
        stream.layout, stream.bit_rate = "mono", int(kbps * 1000)
        frame = av.AudioFrame.from_ndarray(x.numpy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (piece := fifo.read(1024, partial=True)) is not None:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return torch.from_numpy(
            np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
        )


def codecs(folder: Recordings, count: int) -> None:
    """Print the diagnosis of PCM that went through a codec, read as if from a WAV."""
    rng, g = random.Random(5), torch.Generator().manual_seed(0)
    made: dict[str, Callable[[Tensor], Tensor]] = {
        "as it is": lambda x: x,
        "resampled, 16 bits": lambda x: resampled_16(x, rng, g)[0],
        "MP3 64 kbit/s": lambda x: round_trip(x, mp3(64)),
        "MP3 128 kbit/s": lambda x: round_trip(x, mp3(128)),
        "AAC 48 kbit/s": lambda x: aac(x, 48),
        "AAC 64 kbit/s": lambda x: aac(x, 64),
        "Opus, about 16 kbit/s": lambda x: round_trip(x, CodecSpec("opus", 0.95)),
        "Vorbis, quality 1 of 10": lambda x: round_trip(x, CodecSpec("vorbis", 0.9)),
    }
    chosen = rng.sample(list(folder), min(count, len(folder)))
    for name, make in made.items():
        kinds: dict[str, int] = {}
        lossy, ends = 0, []
        for path in chosen:
            x = make(read_audio(path)[:1])
            meter, info = meter_of(x), AudioInfo(RATE, 1, x.shape[-1], "WAV", "PCM_16")
            found = diagnose(info, meter, 0, x.mean(dim=1, keepdim=True), float(x.abs().max()))
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
            lossy += found.holes >= 0.01
            ends.append(meter.result().cutoff_hz)
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda k: -k[1]))
        print(
            f"| {name} | {np.median(ends) / 1000:.1f} kHz | {lossy} of {len(chosen)} | {counts} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--joins", type=int, default=100, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="row of CREDITS.tsv to begin at")
    parser.add_argument("--stop", type=int, help="row to stop before")
    parser.add_argument("--only", choices=("untouched", "joins", "dirty", "codecs"))
    parser.add_argument("--draws", default="dirty", help="seed of the joins with something added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(recordings(options.folder).items())[options.first : options.stop]
    folder, wanted = dict(rows), options.only
    if wanted in (None, "untouched"):
        untouched(folder)
    for kind in KINDS if wanted in (None, "joins") else ():
        joins(folder, kind, options.joins)
    if wanted in (None, "dirty"):
        dirty_joins(folder, options.joins, options.draws)
    if wanted in (None, "codecs"):
        codecs(folder, options.joins)


if __name__ == "__main__":
    main()
