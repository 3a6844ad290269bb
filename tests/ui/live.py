"""What tests of the running app share: starting it, and asking it as programs do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from browser import wait_until_up

ROOT = Path(__file__).resolve().parents[2]
SERVER = ".server-"  # what the name of a server's own file begins with
PATIENCE = 900  # seconds, not expectation: the machine may be busy


@dataclass(frozen=True)
class App:
    """A running app: its address, its process and its folder of temporary files."""

    url: str
    process: subprocess.Popen
    cache: Path
    log: Path

    @property
    def api(self) -> str:
        """Where programs ask."""
        return f"{self.url}gradio_api"

    def memory_mb(self) -> float:
        """What the app holds in memory, without the processes it has started."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1_000


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def heed_interrupts() -> None:
    """Undo what a shell does to a job in the background, which ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def running(folder: Path, port: int | None = None, **environment: str) -> Iterator[App]:
    """Start app.py as the README says, its files below ``folder``; on any free port."""
    port = port or free_port()
    cache, log = folder / "cache", folder / "app.log"
    changes = {"PORT": str(port), "GRADIO_TEMP_DIR": str(cache)} | environment
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=os.environ | changes,
            stdout=file,
            stderr=file,
            preexec_fn=heed_interrupts,
        )
    app = App(f"http://127.0.0.1:{port}/", process, cache, log)
    try:
        wait_until_up(app.url, process, log)
        yield app
    finally:
        process.terminate()
        process.wait(timeout=60)


def upload(client: httpx.Client, app: App, name: str, data: bytes) -> str:
    """Upload a file; returns its path on the server. Raises httpx.HTTPStatusError."""
    answer = client.post(f"{app.api}/upload", files={"files": (name, data)})
    answer.raise_for_status()
    return answer.json()[0]


def ask(client: httpx.Client, app: App, endpoint: str, **values: Any) -> tuple[str, Any]:
    """Call an endpoint; returns "complete" and its data, or "error" and what went wrong."""
    answer = client.post(f"{app.api}/call/v2/{endpoint}", json=values)
    if answer.status_code != 200:
        return "error", answer.json().get("detail", answer.text)
    event = answer.json()["event_id"]
    kind = ""
    with client.stream("GET", f"{app.api}/call/v2/{endpoint}/{event}") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in ("complete", "error"):
                return kind, json.loads(line.removeprefix("data: "))
    return "error", "the answer broke off"


def file_data(path: str) -> dict[str, Any]:
    """A file as Gradio's API wants it named."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def visitors_files(cache: Path) -> list[str]:
    """Every file in a cache folder but the one that a running server holds."""
    found = [f"{folder}/{name}" for folder, _, names in os.walk(cache) for name in names]
    return [path for path in found if not path.startswith(f"{cache}/{SERVER}")]


def until_empty(cache: Path, patience: float = 60.0) -> list[str]:
    """Wait for a folder to hold no visitor's file; returns what is left in the end."""
    deadline = time.monotonic() + patience
    while left := visitors_files(cache):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return left


def session() -> str:
    """A new visitor's name."""
    return uuid.uuid4().hex
