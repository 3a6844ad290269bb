"""Laws of mixes: a browser names a run and a level, never a path, and nonsense is a sentence."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lily.audio import mix
from lily.audio.mix import ENDINGS
from lily.audio.read import read_audio
from lily.ui.mixes import FOLDER, KEPT, MIXES, WAITING, Mixable, Mixes


@pytest.fixture
def comparison(tmp_path) -> Mixable:
    """Two takes over one low band, half a second each."""
    generator = np.random.default_rng(0)
    low = generator.normal(0, 0.1, (24_000, 2))

    def written(name: str, samples: np.ndarray) -> Path:
        path = tmp_path / f"a.{name}.wav"
        soundfile.write(path, samples, 48_000, subtype="PCM_24")
        return path

    paths = {
        name: written(name, low + generator.normal(0, level, low.shape))
        for name, level in (("off", 0.02), ("on", 0.03), ("low", 0.0))
    }
    return Mixable(paths["low"], {"off": paths["off"], "on": paths["on"]}, "a")


def ask(run: str, **changes):
    return {"run": run, "take": "on", "gain_db": -6, "format": "wav24"} | changes


def read(path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0]


@pytest.mark.parametrize(
    ("kind", "subtype", "step"),
    [
        ("wav24", "PCM_24", 2**-23),
        ("wav16", "PCM_16", 2**-15),
        ("wav32f", "FLOAT", 2**-23),
        ("flac", "PCM_24", 2**-23),
    ],
)
def test_a_mix_scales_the_highs_alone(comparison, kind, subtype, step):
    mixes = Mixes()
    told = mixes.mix(ask(mixes.keep(comparison), format=kind))
    assert soundfile.info(told["path"]).subtype == subtype
    low, on = read(comparison.recording), read(comparison.takes["on"])
    expected = low + 10 ** (-6 / 20) * (on - low)
    assert np.abs(read(told["path"]) - expected).max() < 2 * step


def test_at_zero_decibels_the_mix_is_the_take_itself(comparison):
    mixes = Mixes()
    told = mixes.mix(ask(mixes.keep(comparison), take="off", gain_db=0))
    assert np.array_equal(read(told["path"]), read(comparison.takes["off"]))


def test_what_would_clip_is_refused_but_kept_as_float(comparison):
    loud = 0.999 * np.ones((24_000, 2))
    soundfile.write(comparison.takes["on"], loud, 48_000, subtype="PCM_24")
    mixes = Mixes()
    run = mixes.keep(comparison)
    for kind in ("flac", "wav16"):
        assert "would clip" in mixes.mix(ask(run, gain_db=6, format=kind))["error"]
    told = mixes.mix(ask(run, gain_db=6))
    assert soundfile.info(told["path"]).subtype == "FLOAT"
    assert sorted(p.suffix for p in comparison.recording.parent.rglob("*.*")) == [".wav"] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "../../etc/passwd"},
        {"run": None},
        {"take": "low"},
        {"take": ["on"]},
        {"gain_db": "6"},
        {"gain_db": 60},
        {"gain_db": float("nan")},
        {"gain_db": True},
        {"format": "exe"},
        {"format": {}},
    ],
)
def test_nonsense_from_a_client_is_a_sentence_and_writes_nothing(comparison, changes):
    mixes = Mixes()
    asked = ask(mixes.keep(comparison)) | changes
    before = set(comparison.recording.parent.iterdir())
    assert mixes.mix(asked)["error"].endswith(".")
    assert set(comparison.recording.parent.iterdir()) == before


@pytest.mark.parametrize("asked", [None, 3, [], "x", {}])
def test_what_is_not_a_question_is_answered_all_the_same(asked):
    assert "error" in Mixes().mix(asked)


def test_old_comparisons_are_forgotten(comparison):
    mixes = Mixes()
    names = [mixes.keep(comparison) for _ in range(KEPT + 1)]
    assert len(set(names)) == KEPT + 1
    assert "expired" in mixes.mix(ask(names[0]))["error"]
    assert "path" in mixes.mix(ask(names[-1]))


def test_a_comparison_keeps_its_own_files_whatever_their_names(comparison, tmp_path):
    files = {"off": comparison.takes["off"], "on": comparison.takes["on"]}
    named = {key: path.rename(tmp_path / f"a.lily.{key}.-3dB.wav") for key, path in files.items()}
    mixes = Mixes()
    run = mixes.keep(replace(comparison, takes=named))
    for gain_db in range(-MIXES - 2, 0):
        assert "path" in mixes.mix(ask(run, gain_db=gain_db))
    assert all(path.exists() for path in named.values())
    assert len(list((tmp_path / FOLDER).iterdir())) == MIXES


@pytest.mark.parametrize("kind", ["mp3", "m4a"])
def test_lossy_formats_hold_the_mix_at_its_length(comparison, kind):
    mixes = Mixes()
    told = mixes.mix(ask(mixes.keep(comparison), format=kind, gain_db=0))
    assert told["name"] == f"a.lily.on.{kind}"
    heard = read_audio(told["path"]).numpy().T
    take = read(comparison.takes["on"])
    assert heard.shape[1] == 2 and abs(len(heard) - len(take)) < 5_000  # the encoder's padding
    error = [
        np.abs(heard[shift : shift + 20_000] - take[:20_000]).mean() for shift in range(0, 3_000)
    ]
    assert np.argmin(error) == 0  # in step, to the sample
    assert min(error) < 0.8 * np.abs(take).mean()  # noise is the hardest to encode


@pytest.mark.parametrize(
    ("takes", "changes", "name"),
    [
        (["on"], {"gain_db": 0}, "a.lily.wav"),
        (["on"], {"gain_db": 6, "format": "flac"}, "a.lily.+6dB.flac"),
        (["off", "on"], {"gain_db": 0, "format": "wav16"}, "a.lily.on.16bit.wav"),
        (["off", "on"], {"highs_only": True, "format": "wav32f"}, "a.lily.on.highs.-6dB.32bit.wav"),
    ],
)
def test_a_download_is_named_after_the_recording_and_what_it_is(comparison, takes, changes, name):
    mixes = Mixes()
    kept = {key: comparison.takes[key] for key in takes}
    told = mixes.mix(ask(mixes.keep(replace(comparison, takes=kept)), **changes))
    assert told["name"] == name


def test_the_highs_alone_are_what_is_left_without_the_low_band(comparison):
    mixes = Mixes()
    told = mixes.mix(ask(mixes.keep(comparison), highs_only=True))
    low, on = read(comparison.recording), read(comparison.takes["on"])
    assert np.abs(read(told["path"]) - 10 ** (-6 / 20) * (on - low)).max() < 2**-22


def test_a_flood_of_mixes_is_told_to_come_back(comparison, monkeypatch):
    mixes, begun, release = Mixes(), threading.Semaphore(0), threading.Event()

    def slow(*arguments):
        begun.release()
        release.wait(30)

    monkeypatch.setattr("lily.ui.mixes.write_mix", slow)
    run = mixes.keep(comparison)
    asked = [ask(run, gain_db=-gain) for gain in range(WAITING)]
    with ThreadPoolExecutor(WAITING) as pool:
        answers = [pool.submit(mixes.mix, one) for one in asked]
        begun.acquire()
        while mixes._places._value:  # until all of them wait
            time.sleep(0.01)
        assert "try again" in mixes.mix(ask(run))["error"]
        release.set()
        assert all("path" in answer.result() for answer in answers)
    assert "path" in mixes.mix(ask(run))


@pytest.mark.parametrize("kind", ["wav16", "wav24", "wav32f", "flac", "mp3", "m4a"])
def test_a_mix_has_its_name_only_when_it_is_complete(comparison, tmp_path, monkeypatch, kind):
    path, seen = tmp_path / f"mix.{ENDINGS[kind]}", []

    def watched(*arguments):
        for block in mixed(*arguments):
            yield block
            seen.append(path.exists())

    mixed = mix._mixed
    monkeypatch.setattr(mix, "_mixed", watched)
    mix.write_mix(comparison.recording, comparison.takes["on"], 1.0, path, kind)
    assert path.exists() and seen and not any(seen)
