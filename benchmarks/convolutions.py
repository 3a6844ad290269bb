"""HiFi-GAN's convolutions on this CPU: direct, by minimal filtering and by overlap-save.

    python benchmarks/convolutions.py

prints milliseconds and rounding of single layers, the last two columns in bfloat16, then seconds
and rounding of the whole vocoder of AudioSR's size with random weights, one thread. Times are the
best of several, of CPU time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.config.presets import HifiganConfig
from lily.model import overlap_save, winograd_1d
from lily.model.conv_1d import Conv1d
from lily.model.vocoder import HifiganVocoder

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
        "| channels | kernel | direct, float32, ms | minimal filtering, float32, ms | dB "
        "| direct, bfloat16, ms | dB | overlap-save, bfloat16, ms | dB |"
    )
    print(9 * "|---" + "|")
    for channels, length in LAYERS:
        for kernel in KERNELS:
            weight = torch.randn(channels, channels, kernel) / (channels * kernel) ** 0.5
            x = torch.randn(1, channels, length)
            exact = F.conv1d(x.double(), weight.double(), padding=kernel // 2)
            half, rounded = weight.bfloat16(), x.bfloat16()
            rows, half_rows = inside(x), inside(rounded)
            calls: list[Callable[[], Tensor]] = [
                lambda x=x, w=weight: F.conv1d(x, w, padding=w.shape[2] // 2),
                lambda x=rows, w=weight: winograd_1d.convolve(x, w, None),
                lambda x=rounded, w=half: F.conv1d(x, w, padding=w.shape[2] // 2),
                lambda x=half_rows, w=half: overlap_save.convolve(x, w, None),
            ]
            cells = [f"{1e3 * best(call, 5):.1f}" for call in calls]
            for place in (1, 2, 3):
                cells[place] += f" | {error_db(calls[place](), exact):.0f}"
            print(f"| {channels} | {kernel} | {' | '.join(cells)} |", flush=True)


def inside(x: Tensor) -> Tensor:
    """The same values, with channels innermost in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def vocoder() -> None:
    """Print the whole vocoder four ways."""
    made = HifiganVocoder(HifiganConfig(n_mels=MELS)).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.7 / parameter[0].numel() ** 0.5)
    log_mel = torch.randn(1, MELS, FRAMES) - 5
    convolutions = [module for module in made.modules() if isinstance(module, Conv1d)]
    direct = made(log_mel)

    def row(name: str) -> None:
        seconds = best(lambda: made(log_mel), 2)
        print(f"{name}: {seconds:.1f} s, {error_db(made(log_mel), direct):.1f} dB", flush=True)

    print(f"direct, float32: {best(lambda: made(log_mel), 2):.1f} s")
    for module in convolutions:
        module.prepare()
    row("minimal filtering, float32")
    made.lower(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        row("overlap-save, bfloat16 below 24 kHz")
        for module in convolutions:
            module.reset()
        row("direct, bfloat16 below 24 kHz")


def main() -> None:
    """Print both parts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # random weights and inputs, the same in every run
    with torch.inference_mode():
        layers()
        vocoder()


if __name__ == "__main__":
    main()
