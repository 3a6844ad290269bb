"""Lily's parts equal AudioSR's: against outputs that ``golden/make.py`` stored, errors printed.

The error is the largest difference over the largest value of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from golden import formula
from torch import Tensor

from lily.checkpoints.convert_audiosr import examine, write_folder
from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import load_model
from lily.config.presets import MelConfig
from lily.diffusion.guidance import guided
from lily.diffusion.noise import POSTERIOR
from lily.diffusion.samplers import AUDIOSR, AUDIOSR_STEPS, sample
from lily.dsp.audiosr import FAMILIES, ShareMeter, family_of, lowpass, share_index
from lily.dsp.mel import LogMel
from lily.errors import InputError
from lily.inference.engine import InferenceEngine
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion
from lily.model.vocoder import HALO

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "parts.npz")
Compare = Callable[..., None]


def small_config() -> dict[str, Any]:
    """The small model of the golden files, with an encoder its weights know nothing of."""
    encoder = {"channels": [4, 8, 8], "hidden": 16, "layers": 1, "heads": 2, "feed_forward": 32}
    return {
        "name": "parity",
        "model": {
            "params": {
                "first_stage_config": {
                    "params": {
                        "embed_dim": 4,
                        "ddconfig": formula.DDCONFIG,
                        "vocoder_config": {"kind": "hifigan", **formula.VOCODER},
                    }
                },
                "unet_config": {
                    "params": {
                        **formula.UNET,
                        "use_global_encoder": True,
                        "global_context_dim": 16,
                        "global_encoder": encoder,
                    }
                },
                "channels": 4,
                "scale_lowpass": True,
            }
        },
        "inference": {
            "steps": {"default": 4, "min": 1, "max": 200},
            "guidance": {"default": 1.5, "min": 1.0, "max": 10.0},
            "samplers": ["dpmpp2m", "ddim"],
            "sampler": "dpmpp2m",
            "chunk": 64,
            "batch": 2,
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint of the formula's weights in AudioSR's format, converted."""
    root, config = tmp_path_factory.mktemp("parity"), small_config()
    with torch.device("meta"):
        state = LatentDiffusion(**config["model"]["params"]).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if ".global_" not in key}
    for key in [key for key in shapes if key.startswith("first_stage_model.")]:
        shapes[key.replace("first_stage_model", "cond_stage_models.0.vae")] = shapes[key]
    torch.save({"state_dict": formula.weights(shapes)}, root / "pytorch_model.bin")
    checkpoint, account = examine(root / "pytorch_model.bin", config)
    return write_folder(checkpoint, account, config, root / "model", torch.float32)


@pytest.fixture(scope="module")
def model(folder) -> LatentDiffusion:
    return load_model(read_folder_config(folder))


@pytest.fixture
def compare(capsys) -> Iterator[Compare]:
    """``compare(part, ours, name, limit)``: against the stored ``name``; prints the largest."""
    largest: dict[str, float] = {}

    def check(part: str, ours: Tensor, name: str, limit: float) -> None:
        reference = torch.from_numpy(GOLDEN[name]).double()
        assert ours.shape == reference.shape
        error = float((ours.double() - reference).abs().max() / reference.abs().max())
        largest[part] = max(largest.get(part, 0.0), error)
        assert error <= limit, f"{part}: {name} is off by {error:.1e}"

    yield check
    with capsys.disabled():
        for part, error in largest.items():
            print(f"\nparity  {part:38} {error:.1e}", end="")


def test_log_mel(compare):
    ours = LogMel(MelConfig())(formula.recording("log-mel", 1.0, 9_000))
    compare("log-mel front end", ours, "log_mel", 2e-5)


def test_cutoff_of_98_5_percent(compare):
    found = []
    for top in (1_500, 4_000, 8_000, 15_000, 23_000):
        sound = formula.recording(f"cutoff {top}", 1.0, top)[None]
        mean = sound.mean(dim=1, keepdim=True)
        peak = (sound - mean).abs().amax(dim=1, keepdim=True)
        meter = ShareMeter(sound.shape[-1], mean, peak)
        meter.push(sound)
        found += meter.finish()
    compare("cutoff, 98.5 %", torch.tensor(found), "cutoffs", 1e-6)


def test_low_pass_of_every_family_and_the_draw_of_one(compare):
    noise, ours = formula.normal("low-pass", 24_000).numpy(), []
    for family in FAMILIES:
        for hertz in (1_200.7, 6_023.4, 21_000.0):
            out = lowpass(noise, hertz, family)
            ours.append(np.concatenate([out[:2_000], out[-2_000:]]))
    compare("low-pass, four families", torch.from_numpy(np.stack(ours)), "lowpassed", 1e-6)
    drawn = torch.tensor([FAMILIES.index(family_of(seed)) for seed in range(40)])
    compare("family drawn from the seed", drawn, "families", 0.0)


def test_autoencoder_and_scale_factor(model, compare):
    vae, mel = model.first_stage_model, formula.log_mel("vae", 64)[None]
    posterior = model.low_posterior(mel)
    noise = formula.normal("vae noise", 4, 8, 32)[None]
    compare("VAE encode, mean", posterior.mean, "vae_mean", 1e-5)
    compare("VAE encode, mean", posterior.log_variance, "vae_log_variance", 1e-5)
    compare("VAE encode, seeded sample", posterior.at(noise), "vae_sample", 1e-5)
    scaled = posterior.at(noise) * model.scale_factor
    compare("scale factor", scaled, "scaled_sample", 1e-5)
    z = formula.normal("z", 1, 4, 8, 32)
    compare("VAE decode", vae.decode(z), "vae_decoded", 1e-5)
    compare("scale factor", model.decode(z)[:, None], "scaled_decoded", 1e-5)


def test_u_net_and_guidance(model, compare):
    x, low = formula.normal("x", 2, 4, 16, 32), formula.normal("low", 2, 4, 16, 32)
    t = torch.tensor([1, 777])
    compare("U-Net", model.unet(torch.cat([x, low], 1), t), "unet", 1e-5)
    compare("scale factor", model.predict_v(x, low, t), "conditional_v", 1e-5)
    ours = guided(model.predict_v, x, low, t, UNCONDITIONAL, formula.GUIDANCE)
    compare("classifier-free guidance", ours, "guided_v", 1e-5)


def test_schedule_and_v(model, compare):
    compare("cosine schedule", model.signal_scale**2, "signal_power", 1e-6)
    x, noise = formula.normal("clean", 5, 4, 4, 8), formula.normal("noise", 5, 4, 4, 8)
    t = torch.tensor([0, 1, 500, 990, 999])
    signal, spread = (s[t][:, None, None, None] for s in (model.signal_scale, model.noise_scale))
    noisy, v = signal * x + spread * noise, signal * noise - spread * x
    compare("v-parameterisation", noisy, "noisy", 1e-6)
    compare("v-parameterisation", v, "v", 1e-6)
    compare("v-parameterisation", signal * noisy - spread * v, "clean", 1e-6)


def test_ddim_with_eta_1_at_every_count_that_divides_1000(compare):
    assert formula.TOY_STEPS == AUDIOSR_STEPS
    for steps in AUDIOSR_STEPS:

        def noise(k: int) -> Tensor:
            return formula.normal(f"noise {k}", 2, 4, 8).expand(2, 2, 4, 8)

        *_, (_, x) = sample(formula.toy_v, noise, sampler=AUDIOSR, steps=steps)
        compare("DDIM, eta 1, AudioSR's times", x, f"ddim_{steps}", 1e-5)
    with pytest.raises(InputError, match="125, 200, 250"):
        sample(formula.toy_v, noise, sampler=AUDIOSR, steps=12)


def test_mel_replacement(compare):
    low, ours = formula.log_mel("replaced low", 32), formula.log_mel("replaced", 32)
    bins = share_index(low.exp())
    ours[:, :bins] = low[:, :bins]
    compare("mel replacement", ours[None, None], "replaced", 0.0)


def test_vocoder(model, compare):
    ours = model.first_stage_model.vocoder(formula.log_mel("vocoder", 24).T[None])[0]
    reference = torch.from_numpy(GOLDEN["vocoded"])
    assert len(reference) - len(ours) == 16  # the surplus of kernel 10 at rate 5, cut off in Lily
    padded = torch.cat([ours, reference[len(ours) :]])
    compare("vocoder", padded, "vocoded", 1e-5)


class NamedNoise:
    """The noise that the reference was given, in the place of the engine's own."""

    def __init__(self, _seed: int, channels: int, bins: int) -> None:
        self.channels, self.bins = channels, bins

    def latent(self, step: int, starts: list[int], length: int) -> Tensor:
        name = "posterior" if step == POSTERIOR else f"noise {step}"
        drawn = formula.normal(name, self.channels, length, self.bins)
        return drawn.expand(len(starts), -1, -1, -1)


class Listener:
    """In the place of the crossover: keeps what was generated, returns the recording."""

    heard: list[Tensor]

    def __init__(self, *_: object) -> None:
        type(self).heard = []

    def push(self, recording: Tensor, generated: Tensor) -> Tensor:
        self.heard.append(generated)
        return recording

    def flush(self) -> Tensor:
        return self.heard[0][:, :0]


@pytest.mark.slow
def test_profile_audiosr_from_the_file_to_the_vocoder(folder, tmp_path, monkeypatch, compare):
    engine = InferenceEngine(read_folder_config(folder), device="cpu")
    decode, encode, caught = engine.model.decode, engine.model.low_posterior, {}
    monkeypatch.setattr("lily.inference.recording.NoiseField", NamedNoise)
    monkeypatch.setattr("lily.inference.recording.Splicer", Listener)

    def decoded(z: Tensor) -> Tensor:
        caught["latent"], caught["mel"] = z, decode(z)
        return caught["mel"].clone()

    def encoded(mel: Tensor) -> Any:
        caught["low_mel"] = mel.cpu()
        return encode(mel)

    monkeypatch.setattr(engine.model, "decode", decoded)
    monkeypatch.setattr(engine.model, "low_posterior", encoded)
    sides = {"left": 5_000, "right": 9_000}
    sound = torch.stack([formula.recording(f"pipeline {s}", 2.0, top) for s, top in sides.items()])
    soundfile.write(tmp_path / "a.wav", sound.T.numpy(), 48_000, subtype="FLOAT")
    options = {"steps": formula.STEPS, "guidance": formula.GUIDANCE, "seed": formula.SEED}
    result = engine.run_inference(
        tmp_path / "a.wav", tmp_path / "out", profile="audiosr", encoder=False, **options
    )
    assert (result.profile, result.sampler, result.chunks) == ("audiosr", AUDIOSR, 1)
    voice = torch.cat(Listener.heard, dim=1)
    around = sound - sound.mean(dim=1, keepdim=True)
    voice = voice * 0.5 / (around.abs().amax(dim=1, keepdim=True) + 1e-8)
    for row, side in enumerate(sides):
        low, made = caught["low_mel"][row], caught["mel"][row]
        compare("pipeline: low-passed log-mel", low[:256], f"{side}_low_mel", 1e-4)
        compare("pipeline: latent", caught["latent"][row], f"{side}_latent", 1e-4)
        bins = share_index(low.exp())
        made = torch.cat([low[:, :bins], made[:, bins:]], dim=1)
        compare("pipeline: log-mel", made[:256], f"{side}_mel", 1e-4)
        # Before the start Lily's vocoder sees silence, AudioSR's zeros, which are a loud log-mel.
        edge, voiced = HALO * 480, torch.from_numpy(GOLDEN[f"{side}_voice"])
        voiced[edge:] = voice[row, edge:48_000]
        compare("pipeline: vocoder", voiced, f"{side}_voice", 1e-3)
