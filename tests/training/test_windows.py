"""Windows are what the encoder meets at inference: marked where unknown, true where known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from lily.config.presets import load_config, mel_config
from lily.config.training import training_config
from lily.dsp.unknown import UNKNOWN
from lily.model.recording_profile import EDGE, LEVELS
from lily.training.chunks import encode_corpus
from lily.training.corpus import Corpus
from lily.training.parallel import World
from lily.training.train import _build, prepare
from lily.training.windows import Draws, WindowDrawer, narrow_parts

FRAMES = 64


@pytest.fixture(scope="module")
def recipe():
    return training_config(load_config("tiny")["training"])


@pytest.fixture(scope="module")
def corpus(recipe, tmp_path_factory) -> Corpus:
    """Three sources of noise, half of the albums altered, with latents of an untrained model."""
    data, out = tmp_path_factory.mktemp("audio"), tmp_path_factory.mktemp("prepared")
    generator = torch.Generator().manual_seed(0)
    for name in ("a__1", "a__2", "a__3", "b__1", "b__2", "c__1"):
        samples = 0.2 * torch.randn(4 * 48_000, 1, generator=generator)
        soundfile.write(data / f"{name}.flac", samples.numpy(), 48_000)
    settings = replace(recipe, equalised=0.5, own_bandwidth=0.5, album_seconds=(4.0, 12.0), mixed=0)
    run = prepare(data, out, settings, mel_config({}), World(), workers=1)
    try:
        while True:
            next(run)
    except StopIteration as stop:
        found = stop.value[0]
    model = _build(load_config("tiny"), seed=0)
    list(encode_corpus(model, found, torch.device("cpu"), set_scale=False))
    return found


def windows(corpus, recipe, count=40, changing=0.5, **shares):
    settings = replace(recipe, **{"borrowed": 0.0, "strangers": 0.0, "profiles_set": 0.0, **shares})
    drawer = WindowDrawer(settings, Draws(FRAMES, 2, changing))
    generator = torch.Generator().manual_seed(0)
    return [drawer.draw(corpus, 256, generator) for _ in range(count)]


def test_what_was_cut_off_is_marked_and_what_was_not_is_the_original(corpus, recipe):
    for window in windows(corpus, recipe, changing=1.0):
        unknown = window.context == UNKNOWN
        first = WindowDrawer(recipe, Draws(FRAMES, 2, 0)).mel.first_bin_above(window.cutoff_hz)
        wide = ~unknown[:, first]  # the first bin above the cutoff is known in wide parts alone
        assert unknown[~wide, first:].all()
        assert torch.equal(window.context[wide, first], window.original[wide, first])
        assert not unknown[:, : first - 1].any()  # noise leaves no bin empty


def test_a_borrowed_clip_is_of_the_same_source_and_a_strangers_of_another(corpus, recipe):
    def appended(**shares):
        found = windows(corpus, recipe, changing=0.0, **shares)
        return [w for w in found if w.length > 256 or len(w.context) > len(w.original[:256])]

    assert not appended()
    assert appended(borrowed=1.0)
    assert appended(strangers=1.0)
    for window in appended(borrowed=1.0):
        clip = window.original[256:]
        assert torch.equal(window.context[256:, 20:150], clip[:, 20:150])
        assert len(clip) >= 8


def test_an_altered_recording_that_does_not_show_it_has_its_profile_set(corpus, recipe):
    found = windows(corpus, recipe, changing=0.0)
    assert {w.needs_context for w in found} == {True, False}
    for window in found:
        assert window.known.isnan().all() != window.needs_context
        if window.needs_context:
            assert torch.equal(window.known.nan_to_num(9), window.profile.nan_to_num(9))


def test_profiles_are_set_wholly_or_in_their_parts(corpus, recipe):
    found = [w for w in windows(corpus, recipe, 80, 0.0, profiles_set=1.0) if not w.needs_context]
    kinds = set()
    for window in found:
        set_to = ~window.known.isnan()
        kinds.add((bool(set_to[EDGE]), bool(set_to[LEVELS].any()), bool(set_to[7:].any())))
        assert torch.equal(window.known[set_to], window.profile[set_to])
    assert kinds == {(1, 1, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0)}


def test_rows_are_known_where_the_window_is_wide(corpus, recipe):
    for window in windows(corpus, recipe, 10, changing=1.0):
        for row in window.rows:
            kept = ~row.narrow[::8]
            assert torch.equal(row.low[kept], row.target[kept])
            assert not torch.equal(row.low[~kept], row.target[~kept])
            place = round(row.seconds * 100)
            own = window.original[place : place + FRAMES]
            assert torch.equal(row.log_mel[: len(own)], own)


def test_an_early_edge_masks_the_loss_above_it(corpus, recipe):
    drawer = WindowDrawer(recipe, Draws(FRAMES, 1, 0.0))
    [window] = windows(corpus, recipe, 1)
    early = replace(window, edge_hz=10_000.0, cutoff_hz=4_000.0)
    weights = drawer.mel_weights(early, 0.02)
    known, above = (drawer.mel.first_bin_above(hz) for hz in (4_000, 10_000))
    assert (weights[:known] < 0.1).all() and (weights[known:above] > 0.3).all()
    assert not weights[above:].any()
    assert drawer.mel_weights(replace(early, edge_hz=18_500.0), 0.02).all()


@pytest.mark.parametrize("length", [40, 64, 72, 200, 1000, 1003])
def test_narrow_parts_leave_room_for_a_chunk(length):
    for seed in range(20):
        narrow = narrow_parts(length, FRAMES, torch.Generator().manual_seed(seed))
        assert len(narrow) == -(-length // 8)
        assert narrow[: length // 8].sum() * 8 >= min(FRAMES, length // 8 * 8)


def test_prepared_folder_has_the_facts_the_draws_need(corpus: Corpus):
    assert isinstance(corpus.folder, Path)
    assert all(16_000 < hz < 30_000 for hz in corpus.edges_hz)
    assert {True, False} == set(corpus.altered)
