"""Make the golden files: run the reference once, store what it answers.

In a virtual environment of its own, Python 3.11 (nothing of the project is imported):

    pip install torch==2.11.0 torchaudio==2.11.0 torchvision==0.26.0
    pip install einops chardet "librosa<1" pandas unidecode torchlibrosa "transformers<6" \\
        phonemizer "huggingface-hub<2" progressbar2 ftfy timm pyloudnorm scikit-learn matplotlib
    pip install --no-deps kagayoi-audiosr==1.0.2
    python tests/golden/make.py

It writes ``audiosr_tensors.tsv``, names and shapes of the full-size model, and ``parts.npz``,
outputs of a small one whose weights are ``formula.py``'s.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import formula
import numpy as np
import torch
from audiosr import pipeline, utils
from audiosr.latent_diffusion.models.ddim import DDIMSampler
from audiosr.latent_diffusion.models.ddpm import LatentDiffusion
from audiosr.lowpass import lowpass
from audiosr.utilities import model as vocoders
from torch import Tensor

HERE = Path(__file__).resolve().parent


def full_size_tensors() -> None:
    params = utils.default_audioldm_config()["model"]["params"]
    state = LatentDiffusion(**{**params, "device": "cpu"}).state_dict()
    lines = (f"{name}\t{'x'.join(map(str, value.shape))}\n" for name, value in state.items())
    (HERE / "audiosr_tensors.tsv").write_text("".join(lines))


def small_model() -> LatentDiffusion:
    params = utils.default_audioldm_config()["model"]["params"]
    vaes = [params["first_stage_config"]]
    cond = params["cond_stage_config"]["concat_lowpass_cond"]
    vaes.append(cond["params"]["first_stage_config"])
    for vae in vaes:
        vae["params"].update(embed_dim=4, ddconfig=formula.DDCONFIG)
        vae["params"].pop("reload_from_ckpt", None)
    params["unet_config"]["params"] = formula.UNET
    params.update(channels=4, device="cpu")
    config = {**vocoders.get_vocoder_config_48k(), **formula.VOCODER}
    vocoders.get_vocoder_config_48k = lambda: config
    model = LatentDiffusion(**params).eval()
    state = model.state_dict()
    kept = ("model.", "first_stage_model.", "cond_stage_models.", "scale_factor")
    state |= formula.weights({k: v.shape for k, v in state.items() if k.startswith(kept)})
    model.load_state_dict(state)
    return model


@contextmanager
def noise_by_name(*names: str) -> Iterator[None]:
    """Let ``torch.randn`` draw the named noises, one a call, then ``noise 1``, ``noise 2``, …"""
    real, calls = torch.randn, 0

    def draw(*shape: Any, **_: Any) -> Tensor:
        nonlocal calls
        size = shape[0] if isinstance(shape[0], (tuple, list, torch.Size)) else shape
        name = names[calls] if calls < len(names) else f"noise {calls - len(names) + 1}"
        calls += 1
        return formula.normal(name, *size[1:]).expand(*size)

    torch.randn = draw
    try:
        yield
    finally:
        torch.randn = real


def front_end() -> dict[str, Any]:
    sound = formula.recording("log-mel", 1.0, 9_000)
    mel, _ = utils.mel_spectrogram_train(sound[None])
    cutoffs, filtered = [], []
    for top in (1_500, 4_000, 8_000, 15_000, 23_000):
        tone = utils.normalize_wav(formula.recording(f"cutoff {top}", 1.0, top).numpy())
        padded = torch.from_numpy(utils.pad_wav(tone, 245_760))[None].float()
        _, stft = utils.wav_feature_extraction(padded, 512)
        cutoffs.append(utils._locate_cutoff_freq(stft, 0.985) / 1024 * 24_000)
    noise = formula.normal("low-pass", 24_000).numpy()
    for family in utils._LOWPASS_FILTER_TYPES:
        for hertz in (1_200.7, 6_023.4, 21_000.0):
            out = lowpass(noise, hertz, 48_000, 8, family)
            filtered.append(np.concatenate([out[:2_000], out[-2_000:]]))
    drawn = [utils._select_lowpass_filter_type(seed) for seed in range(40)]
    families = [utils._LOWPASS_FILTER_TYPES.index(family) for family in drawn]
    return {"log_mel": mel.T, "cutoffs": cutoffs, "lowpassed": filtered, "families": families}


def networks(model: LatentDiffusion) -> dict[str, Any]:
    vae, out = model.first_stage_model, {}
    mel = formula.log_mel("vae", 64)[None, None]
    posterior = vae.encode(mel)
    with noise_by_name("vae noise"):
        out |= {"vae_mean": posterior.mean, "vae_sample": posterior.sample()}
        out["vae_log_variance"] = posterior.logvar
    with noise_by_name("vae noise"):
        out["scaled_sample"] = model.get_first_stage_encoding(vae.encode(mel))
    z = formula.normal("z", 1, 4, 8, 32)
    out |= {"vae_decoded": vae.decode(z), "scaled_decoded": model.decode_first_stage(z)}
    x, low = formula.normal("x", 2, 4, 16, 32), formula.normal("low", 2, 4, 16, 32)
    t = torch.tensor([1, 777])
    none: dict[str, Any] = {"context_list": [], "context_attn_mask_list": []}
    out["unet"] = model.model.diffusion_model(torch.cat([x, low], 1), t, **none)
    out["conditional_v"] = model.apply_model(x, t, {"concat_lowpass_cond": low})
    without = model.apply_model(x, t, {"concat_lowpass_cond": torch.full_like(low, -11.4981)})
    out["guided_v"] = without + formula.GUIDANCE * (out["conditional_v"] - without)
    voiced = vae.vocoder(formula.log_mel("vocoder", 24).T[None])
    return {**out, "vocoded": voiced[0, 0]}


def diffusion(model: LatentDiffusion) -> dict[str, Any]:
    out: dict[str, Any] = {"signal_power": model.alphas_cumprod}
    x, noise = formula.normal("clean", 5, 4, 4, 8), formula.normal("noise", 5, 4, 4, 8)
    t = torch.tensor([0, 1, 500, 990, 999])
    out["noisy"], out["v"] = model.q_sample(x, t, noise), model.get_v(x, noise, t)
    out["clean"] = model.predict_start_from_z_and_v(out["noisy"], t, out["v"])
    real = model.apply_model
    model.apply_model = lambda x, t, _: formula.toy_v(x, t)
    for steps in formula.TOY_STEPS:
        sampler = DDIMSampler(model, device=torch.device("cpu"))
        with noise_by_name("noise 0"):
            out[f"ddim_{steps}"], _ = sampler.sample(
                steps, 2, (2, 4, 8), None, eta=1.0, verbose=False
            )
    model.apply_model = real
    low = formula.log_mel("replaced low", 32)[None]
    out["replaced"] = model.mel_replace_ops(formula.log_mel("replaced", 32)[None, None], low)
    return out


def whole_pipeline(model: LatentDiffusion) -> dict[str, Any]:
    """Two channels of 2 s through ``super_resolution``'s own steps, up to the vocoder."""
    out: dict[str, Any] = {}
    caught: dict[str, Tensor] = {}
    decode, vocode = model.decode_first_stage, model.mel_spectrogram_to_waveform

    def decoded(z: Tensor) -> Tensor:
        caught["latent"] = z
        return decode(z)

    def voiced(mel: Tensor, **options: Any) -> Any:
        caught["mel"] = mel
        caught["voice"] = vocode(mel, **options)
        return caught["voice"].copy()

    model.decode_first_stage, model.mel_spectrogram_to_waveform = decoded, voiced
    for channel, top in (("left", 5_000), ("right", 9_000)):
        caught.clear()
        utils.seed_everything(formula.SEED)
        sound = formula.recording(f"pipeline {channel}", 2.0, top)
        batch, _ = pipeline.make_batch_for_super_resolution(None, waveform=sound.numpy())
        with noise_by_name("target", "posterior", "noise 0"):
            model.generate_batch(
                batch,
                ddim_steps=formula.STEPS,
                unconditional_guidance_scale=formula.GUIDANCE,
            )
        out[f"{channel}_latent"] = caught["latent"][0]
        out[f"{channel}_low_mel"] = batch["lowpass_mel"][0, :256]
        out[f"{channel}_mel"] = caught["mel"][0, 0, :256]
        out[f"{channel}_voice"] = caught["voice"][0, 0, :48_000]
    model.decode_first_stage, model.mel_spectrogram_to_waveform = decode, vocode
    return out


def main() -> None:
    full_size_tensors()
    with torch.no_grad():
        model = small_model()
        found = {**front_end(), **networks(model), **diffusion(model), **whole_pipeline(model)}
    np.savez_compressed(HERE / "parts.npz", **formula.arrays(found))
    size = sum((HERE / name).stat().st_size for name in ("parts.npz", "audiosr_tensors.tsv"))
    sys.stdout.write(f"{len(found)} arrays, {size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
