"""Lily on a pipe, as ``audiosr_worker.py`` is AudioSR: the same requests, the same answers."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path


def main(folder: str, threads: int, device: str, precision: str, recording: str) -> None:
    """Load Lily once, as its command line does, then answer requests until the pipe closes.

    The command line looks at its ``recording`` before it loads the model, which starts the process
    that decodes.
    """
    from lily.audio.probe import probe

    probe(Path(recording))
    import torch

    torch.set_num_threads(threads)
    from lily.checkpoints.resolve import resolve_config
    from lily.cli.malloc import keep_freed_memory
    from lily.evaluation.benchmark import StageClock
    from lily.inference.engine import InferenceEngine

    engine = InferenceEngine(resolve_config(weights=folder), device, precision)
    keep_freed_memory()
    ready = {"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({**ready, "precision": str(engine.precision)}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        clock = StageClock(engine, time.process_time)
        began, cpu = time.perf_counter(), time.process_time()
        with clock.watching(), tempfile.TemporaryDirectory() as output:
            engine.run_inference(Path(request["input"]), output, **request["options"])
        times = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        print(json.dumps({**times, "stages": clock.seconds, "calls": clock.counted()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
