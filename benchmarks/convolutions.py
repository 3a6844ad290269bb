"""HiFi-GAN's convolutions on this CPU: direct in float32 and bfloat16, and by minimal filtering.

    python benchmarks/convolutions.py

prints milliseconds and rounding of single layers, then seconds and rounding of the whole vocoder of
AudioSR's size with random weights, one thread. Times are the best of several, of CPU time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.config.presets import HifiganConfig
from lily.model.vocoder import HifiganVocoder
from lily.model.winograd_1d import Conv1d, convolve, matrices

# Channels and samples of a bank's layers for 5.6 s, the longer ones in the vocoder's tiles.
LAYERS = ((768, 3360), (384, 8192), (192, 8192), (96, 8192), (48, 8192))
KERNELS = (3, 7, 11, 15)
FRAMES, MELS = 560, 256  # a block of the vocoder and its halo


def best(work: Callable[[], object], rounds: int) -> float:
    """The shortest CPU time of a call, in seconds, after one that does not count."""
    work()
    found = math.inf
    for _ in range(rounds):
        began = time.process_time()
        work()
        found = min(found, time.process_time() - began)
    return found


def error_db(found: Tensor, expected: Tensor) -> float:
    """The root mean square of the difference, relative to what was expected, in dB."""
    ratio = (found.double() - expected).square().mean() / expected.double().square().mean()
    return 10 * math.log10(float(ratio))


def layers() -> None:
    """Print a row for each layer."""
    print(
        "| channels | kernel | points | float32, ms | bfloat16, ms | minimal, ms | rounding, dB |"
    )
    print("|---|---|---|---|---|---|---|")
    for channels, length in LAYERS:
        for kernel in KERNELS:
            weight = torch.randn(channels, channels, kernel) / (channels * kernel) ** 0.5
            x = torch.randn(1, channels, length)
            rows = x.transpose(1, 2).contiguous().transpose(1, 2)
            half = x.bfloat16(), weight.bfloat16()
            pad = kernel // 2
            calls: list[Callable[[], Tensor]] = [
                lambda x=x, w=weight, p=pad: F.conv1d(x, w, padding=p),
                lambda h=half, p=pad: F.conv1d(*h, padding=p),
                lambda x=rows, w=weight: convolve(x, w, None),
            ]
            times = " | ".join(f"{1e3 * best(call, 5):.1f}" for call in calls)
            exact = F.conv1d(x.double(), weight.double(), padding=pad)
            rounding = error_db(calls[2](), exact)
            points = len(matrices(kernel)[1])
            print(f"| {channels} | {kernel} | {points} | {times} | {rounding:.0f} |", flush=True)


def vocoder() -> None:
    """Print the whole vocoder three ways."""
    made = HifiganVocoder(HifiganConfig(n_mels=MELS)).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.7 / parameter[0].numel() ** 0.5)
    log_mel = torch.randn(1, MELS, FRAMES) - 5
    direct = made(log_mel)
    print(f"direct, float32: {best(lambda: made(log_mel), 1):.1f} s")
    convolutions = [module for module in made.modules() if isinstance(module, Conv1d)]
    for module in convolutions:
        module.prepare()
    seconds, rounding = best(lambda: made(log_mel), 1), error_db(made(log_mel), direct)
    print(f"minimal filtering: {seconds:.1f} s, {rounding:.0f} dB from direct", flush=True)
    for module in convolutions:
        module.reset()
    made.lower(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        seconds, rounding = best(lambda: made(log_mel), 1), error_db(made(log_mel), direct)
    print(f"direct, bfloat16 below 24 kHz: {seconds:.1f} s, {rounding:.0f} dB from direct")


def main() -> None:
    """Print both parts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # random weights and inputs, the same in every run
    with torch.inference_mode():
        layers()
        vocoder()


if __name__ == "__main__":
    main()
