"""ASGI middleware that refuses requests which the page never sends, before Gradio reads them.

It limits the size of bodies (Gradio limits one file, but neither their number nor the JSON that it
reads into memory), refuses uploads while the disk is full, blocks Gradio's proxy route, and answers
with a plain sentence when the queue is full.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lily.ui.cache import Cache

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

JSON_BYTES = 1_000_000  # a page's event is 30 kB where the recording has an hour's 700 chunks
FRAMING_BYTES = 100_000  # what multipart adds to the files it carries
BASE64 = 4 / 3  # by how much a file grows that an MCP client sends inside JSON
API = "/gradio_api"
JSON = b"application/json"
BUSY_STATUS = 503
BUSY = "The page is busy: everybody who may wait is waiting. Try again in a few minutes."


class Guard:
    """ASGI middleware; ``most_bytes`` is what one recording may have."""

    def __init__(self, app: App, cache: Cache, most_bytes: int) -> None:
        self._app = app
        self._cache = cache
        self._most_bytes = most_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request that is refused; hand every other one on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, reason, limit = await self._judge(scope)
        if reason:
            await _refuse(send, status, reason.encode(), b"text/plain; charset=utf-8")
        else:
            await self._app(scope, _limited(receive, limit), _busy_in_words(send))

    async def _judge(self, scope: Message) -> tuple[int, str, float]:
        """A status and a reason to refuse a request, or an empty one; and its body's limit."""
        path = scope["path"]
        limit: float = JSON_BYTES
        if path.endswith(f"{API}/upload"):
            limit = self._most_bytes + FRAMING_BYTES
        elif f"{API}/mcp" in path:
            limit = self._most_bytes * BASE64 + JSON_BYTES
        if "/file=http" in path or "/file/http" in path or "/proxy=" in path:
            return 403, "This server fetches nothing from other addresses for you.", limit
        said = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(said) if said.isdigit() else 0
        if size > limit:
            most = f"{limit / 1e6:.0f} MB"
            return 413, f"The request has {size / 1e6:.0f} MB; at most {most} are taken.", limit
        uploads = path.endswith(f"{API}/upload")
        if uploads and not await asyncio.to_thread(self._cache.has_room, size):
            return 507, "There is no room for a recording now; try again later.", limit
        return 200, "", limit


def _limited(receive: Receive, limit: float) -> Receive:
    """The same body, broken off as by a client that goes away once it is too long."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= limit else {"type": "http.disconnect"}

    return limited


def _busy_in_words(send: Send) -> Send:
    """Replace Gradio's answer that its queue is full, which counts places."""
    busy = False

    async def sending(message: Message) -> None:
        nonlocal busy
        if message["type"] == "http.response.start" and message["status"] == BUSY_STATUS:
            busy = True
            await _refuse(send, BUSY_STATUS, json.dumps({"detail": BUSY}).encode(), JSON)
        elif not busy:
            await send(message)

    return sending


async def _refuse(send: Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
