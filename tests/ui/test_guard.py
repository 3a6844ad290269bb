"""Laws of the door: bodies are limited, full disks are told, and nobody is proxied."""

from __future__ import annotations

from pathlib import Path

import pytest
from coroutines import finish

from lily.ui.cache import Cache
from lily.ui.guard import FRAMING_BYTES, JSON_BYTES, Guard

MOST = 2_000_000


def asked(folder: Path, path: str, size: int, room: float = 1e9, said: bool = True) -> int:
    """The status of a POST with ``size`` bytes; 200 is the app's, after reading all of it."""
    sent: list[dict] = []
    left = [size]

    async def app(_scope, receive, send) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        count = min(left[0], 65_536)
        left[0] -= count
        return {"type": "http.request", "body": bytes(count), "more_body": left[0] > 0}

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"content-length", str(size).encode())] if said else []
    scope = {"type": "http", "path": path, "headers": headers}
    finish(Guard(app, Cache(folder, 60, room), MOST)(scope, receive, send))
    return sent[0]["status"] if sent else 0


@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
def test_bodies_are_limited_by_what_they_are_for(tmp_path, root):
    api = f"{root}/gradio_api"
    for path, most in (
        (f"{api}/queue/join", JSON_BYTES),
        (f"{api}/upload", MOST + FRAMING_BYTES),
        (f"{api}/mcp/", JSON_BYTES + 4 * MOST // 3),
    ):
        assert asked(tmp_path, path, most) == 200
        assert asked(tmp_path, path, most + 1) == 413
        assert asked(tmp_path, path, most, said=False) == 200
        assert asked(tmp_path, path, most + 1, said=False) == 0  # broken off


def test_an_upload_waits_for_room(tmp_path):
    assert asked(tmp_path, "/gradio_api/upload", 1_000, room=999) == 507
    assert asked(tmp_path, "/gradio_api/queue/join", 1_000, room=999) == 200


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=https://example.org/a", "/file/http://x", "/gradio_api/proxy=http:/x"],
)
def test_nobody_is_proxied(tmp_path, path):
    assert asked(tmp_path, path, 0) == 403


def test_a_nonsense_length_is_no_length(tmp_path):
    async def run() -> int:
        sent = []

        async def app(_scope, receive, send):
            await send({"type": "http.response.start", "status": 200})

        async def send(message):
            sent.append(message["status"])

        scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"-1e9")]}
        await Guard(app, Cache(tmp_path, 60, 1), MOST)(scope, None, send)  # type: ignore[arg-type]
        return sent[0]

    assert finish(run()) == 200
