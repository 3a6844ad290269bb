"""Visitors who go away at any moment of a run: the engine is free for the next each time."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import torch
from fuzz import tiny_folder
from live import App, ask, file_data, running, session, upload
from malformed import whole

pytestmark = pytest.mark.slow

LEAVERS = 24
PATIENCE = 60.0  # seconds, not expectation: a run of a second that has to wait for a step


def leave(client: httpx.Client, app: App, function: int, path: str, messages: int) -> int:
    """Begin a run as a page does and close its connection after some messages; returns how many."""
    visitor = session()
    values = [file_data(path), None, "both", 2, 1, None, None, None, None, None, None]
    asked = {"data": values, "fn_index": function, "session_hash": visitor}
    client.post(f"{app.api}/queue/join", json=asked).raise_for_status()
    heard = 0
    with client.stream("GET", f"{app.api}/queue/data", params={"session_hash": visitor}) as told:
        for line in told.iter_lines():
            heard += line.startswith("data: ") and "heartbeat" not in line
            if heard >= messages or "process_completed" in line:
                break
    return heard


def test_the_engine_is_free_whenever_somebody_leaves(tmp_path):
    torch.set_num_threads(1)
    model = tiny_folder(tmp_path / "model")
    with (
        running(tmp_path, OMP_NUM_THREADS="1", LILY_MODEL=str(model)) as app,
        httpx.Client(timeout=PATIENCE) as client,
    ):
        path = upload(client, app, "take.wav", whole("wav", 1, 8_000))
        config = client.get(f"{app.url}config").json()
        (function,) = (d["id"] for d in config["dependencies"] if d.get("api_name") == "upsample")
        whole_run = leave(client, app, function, path, 1_000)
        assert whole_run > 3
        for messages in np.random.default_rng(7).integers(1, whole_run + 1, LEAVERS):
            leave(client, app, function, path, int(messages))
            kind, told = ask(client, app, "upsample", audio=file_data(path), steps=1, seed=1)
            assert kind == "complete", (messages, told)
