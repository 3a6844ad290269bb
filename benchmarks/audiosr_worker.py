"""AudioSR on a pipe: one JSON request a line in, one JSON answer a line out.

Started by ``side_by_side.py`` in a virtual environment that has kagayoi-audiosr; nothing of Lily
is imported. A request is {"input", "output", "steps", "guidance", "seed"}; an answer has the
seconds of the whole call, as AudioSR's own command line makes it with the model loaded, on the
clock and of the processor, the processor's inside each part, and how often each was called.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any


class Stopwatch:
    """Processor seconds and calls by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Count every call of ``owner.method`` as ``part``."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - began
                self.calls[part] = self.calls.get(part, 0) + 1

        setattr(owner, method, timed)


def main(checkpoint: str, threads: int, device: str) -> None:
    """Load AudioSR once, then answer requests until the pipe closes."""
    import torch
    from audiosr import build_model, super_resolution
    from audiosr.utils import save_wave

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # as AudioSR's command line sets it
    model = build_model(ckpt_path=checkpoint, device=device)
    watch = Stopwatch()
    watch.watch(model, "apply_model", "unet")
    watch.watch(model.first_stage_model, "encode", "vae encode")
    watch.watch(model.cond_stage_models[0].vae, "encode", "vae encode")
    watch.watch(model, "decode_first_stage", "vae decode")
    watch.watch(model, "mel_spectrogram_to_waveform", "vocoder")
    answer({"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        request = json.loads(line)
        watch.seconds.clear()
        watch.calls.clear()
        began, cpu = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):  # it prints
            samples = super_resolution(
                model,
                request["input"],
                seed=request["seed"],
                ddim_steps=request["steps"],
                guidance_scale=request["guidance"],
            )
            save_wave(samples, request["input"], request["output"], name="audiosr")
        times = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        answer({**times, "stages": watch.seconds, "calls": watch.calls})


def answer(what: dict[str, Any]) -> None:
    """Write one line to the pipe that ``main`` found."""
    PIPE.write(json.dumps(what) + "\n")
    PIPE.flush()


if __name__ == "__main__":
    PIPE = sys.stdout
    sys.stdout = sys.stderr  # whatever AudioSR prints must not reach the pipe
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
