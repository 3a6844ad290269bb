"""Distillation: the student comes near to the teacher, the same way for the same seed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lily.config.presets import GlobalEncoderConfig
from lily.model.global_encoder import GlobalAudioEncoder
from lily.training.windows import Window

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from distil_encoder import (  # noqa: E402
    FullResolutionEncoder,
    batches,
    distil,
    encoder_state,
    losses,
)

from lily.model.latent_diffusion import ENCODER_PREFIX  # noqa: E402

SMALL = GlobalEncoderConfig(
    channels=(8, 8, 16), hidden=16, layers=1, heads=2, feed_forward=32, profile=True
)


@pytest.fixture
def encoders() -> tuple[GlobalAudioEncoder, GlobalAudioEncoder]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = FullResolutionEncoder(SMALL, 24)
    student = GlobalAudioEncoder(SMALL, 24)
    student.load_state_dict(teacher.state_dict())  # the shapes are the same
    return teacher, student


@pytest.fixture
def windows(randn) -> list[Window]:
    made = []
    for length in (160, 400, 160, 239):
        log_mel = 2 * randn(length, 256) + 2 * randn(1, 256) - 6
        nothing = torch.full((12,), torch.nan)
        made.append(
            Window(log_mel, log_mel[:, ::4], length, randn(12), nothing, False, 8e3, 2e4, [])
        )
    return made


def drawn_for(teacher, windows, seed=0):
    return batches(windows, teacher, (1, 4), torch.Generator().manual_seed(seed))


def test_batches_hold_every_window_and_what_the_teacher_reads_of_it_alone(encoders, windows):
    teacher, _ = encoders
    (batch,) = batches(windows, teacher, (1, 1), torch.Generator())
    assert batch.lengths.tolist() == [160, 160, 239, 400]
    alone = teacher(windows[3].context.T[None, None])
    torch.testing.assert_close(batch.context.vector[2], alone.vector[0], atol=1e-5, rtol=1e-5)


def test_batches_are_split_at_their_most_frames(encoders, windows, monkeypatch):
    monkeypatch.setattr("distil_encoder.BATCH", 480)
    made = batches(windows, encoders[0], (1, 1), torch.Generator())
    assert [batch.lengths.tolist() for batch in made] == [[160, 160], [239], [400]]


def test_a_teacher_that_is_the_student_leaves_no_difference(encoders, windows):
    _, student = encoders
    (batch,) = drawn_for(student, windows)
    terms = losses(student, batch)
    assert all(terms[name].item() < 1e-9 for name in ("features", "tokens", "vector"))


def test_the_student_comes_nearer_to_the_teacher(encoders, windows):
    teacher, student = encoders
    drawn = drawn_for(teacher, windows)
    before = losses(student, drawn[0])
    list(distil(student, drawn, 40, torch.Generator().manual_seed(0)))
    after = losses(student, drawn[0])
    for name in ("features", "tokens", "vector"):
        assert after[name] < 0.5 * before[name]


def test_the_same_seed_gives_the_same_weights(encoders, windows):
    teacher, student = encoders
    results = []
    for _ in range(2):
        student.load_state_dict(teacher.state_dict())
        list(distil(student, drawn_for(teacher, windows), 3, torch.Generator().manual_seed(1)))
        results.append({name: p.detach().clone() for name, p in student.named_parameters()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_the_encoders_part_of_a_model_is_found(encoders):
    _, student = encoders
    state = {ENCODER_PREFIX + k: v.half() for k, v in student.state_dict().items()}
    student.load_state_dict(encoder_state({**state, "model.other": torch.zeros(1)}))
