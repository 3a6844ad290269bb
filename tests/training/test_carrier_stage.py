"""Laws of the carrier vocoder's stage: what trains, what a score above a cutoff sees."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import load_config
from lily.config.training import training_config
from lily.errors import TrainingError
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.carrier_stage import CarrierStage
from lily.training.losses import energy_distance_above


class Noise:
    """A corpus of noise, at any level."""

    def draw_samples(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, float]:
        return 0.3 * torch.randn(count, generator=generator), 1.5


@pytest.fixture(scope="module")
def stage():
    config = load_config("tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LatentDiffusion(**config["model"]["params"])
    recipe = training_config(config["training"])
    return CarrierStage(model, recipe, torch.device("cpu"))


def test_a_batch_is_band_limited_and_a_third_of_it_synthetic(stage):
    crops = stage.batch(Noise(), torch.Generator().manual_seed(0))
    again = stage.batch(Noise(), torch.Generator().manual_seed(0))
    assert torch.equal(crops.target, again.target) and torch.equal(crops.low, again.low)
    assert crops.target.shape == crops.low.shape == (3, 30_720)
    hz = torch.fft.rfftfreq(30_720, 1 / 48_000)
    for low, cutoff in zip(crops.low, crops.cutoff_hz, strict=True):
        power = torch.fft.rfft(low * torch.hann_window(30_720)).abs().square()
        assert power[hz > 1.1 * cutoff].sum() < 1e-6 * power.sum()


def test_the_gates_the_shape_and_the_guided_blocks_learn_and_nothing_else(stage):
    trained = {id(p) for module in stage.modules for p in module.parameters()}
    for parameter in stage.model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    generator = torch.Generator().manual_seed(0)
    loss, figures = stage.loss(stage.batch(Noise(), generator), generator)
    loss.backward()
    vocoder = stage.vocoder
    gates = vocoder.gates.bias.grad.unflatten(0, (2, 3, -1))
    assert all(gates[:, carrier].abs().max() > 0 for carrier in range(3))
    assert vocoder.shape.bias.grad.abs().min() > 0
    assert vocoder.adapt.weight.grad.abs().max() > 0
    assert vocoder.embed.weight.grad is None
    assert set(figures) == {"score", "wide", "strokes"}
    assert float(loss) == pytest.approx(
        0.75 * float(figures["wide"]) + 0.25 * float(figures["strokes"])
    )


def test_constants_chosen_after_training_are_left_out():
    config = load_config("tiny")
    first_stage = config["model"]["params"]["first_stage_config"]["params"]
    first_stage["vocoder_config"] |= {"sharpen": 1.8, "lines_db": 2.0}
    model = LatentDiffusion(**config["model"]["params"])
    assert model.first_stage_model.vocoder.tilt.any()
    stage = CarrierStage(model, training_config(config["training"]), torch.device("cpu"))
    assert stage.vocoder.sharpen == 0 and not stage.vocoder.tilt.any()


def test_a_preset_without_carriers_is_refused(stage):
    config = load_config("tiny")
    params = config["model"]["params"]
    params["first_stage_config"]["params"]["vocoder_config"] = {"kind": "istft", "dim": 8}
    with torch.device("meta"):
        model = LatentDiffusion(**params)
    with pytest.raises(TrainingError, match="istft_carriers"):
        CarrierStage(model, training_config(config["training"]), torch.device("cpu"))


def noise(seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(seed))


CUTOFF = torch.tensor([4_000.0, 9_000.0])


def test_the_score_of_the_right_distribution_is_its_own_spread():
    _, terms = energy_distance_above(noise(0), noise(1), noise(2), CUTOFF)
    assert float(terms["wide"]) == pytest.approx(0.77, abs=0.03)  # chance, in log10 of power
    same, _ = energy_distance_above(noise(0), noise(0), noise(0), CUTOFF)
    assert float(same) < 1e-3


def test_a_wrong_level_a_repeated_draw_and_lost_attacks_score_worse():
    right, _ = energy_distance_above(noise(0), noise(1), noise(2), CUTOFF)
    louder, _ = energy_distance_above(noise(0), 4 * noise(1), 4 * noise(2), CUTOFF)
    repeated, _ = energy_distance_above(noise(0), noise(1), noise(1), CUTOFF)
    assert right < repeated and right < louder
    time = torch.arange(24_000) / 48_000
    struck = 10 ** (-20 * (time % 0.05))
    _, flat = energy_distance_above(noise(0) * struck, noise(1), noise(2), CUTOFF)
    _, sharp = energy_distance_above(
        noise(0) * struck, noise(1) * struck, noise(2) * struck, CUTOFF
    )
    assert sharp["strokes"] < 0.8 * flat["strokes"]


def test_nothing_below_the_cutoff_is_scored():
    hz = torch.fft.rfftfreq(24_000, 1 / 48_000)
    low = torch.fft.irfft(torch.fft.rfft(noise(3)) * (hz < 3_000))
    plain, _ = energy_distance_above(noise(0), noise(1), noise(2), CUTOFF)
    other, _ = energy_distance_above(noise(0), noise(1) + 0.3 * low, noise(2), CUTOFF)
    assert float(other) == pytest.approx(float(plain), abs=5e-3)
