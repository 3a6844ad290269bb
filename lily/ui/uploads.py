"""Take only what was uploaded here: this server fetches nothing from other addresses.

A client may name a file by its address where it has no other way, as MCP's tools have not; then it
has to be the address that this server gave the upload. Gradio would fetch any public address, of
any size, into memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr

OWN = re.compile(r".*/gradio_api/file=(?P<path>.+)")
NOTHING_FETCHED = (
    "This server fetches nothing from other addresses; upload the recording to /gradio_api/upload "
    "and give the address /gradio_api/file=PATH, or send it as a data: URL."
)


def uploads_only(component: gr.blocks.Block) -> None:
    """Make a component refuse addresses that are not of an upload.

    Gradio fetches any value that looks like a file, also for components that show none.
    """
    keep = component.async_move_resource_to_block_cache

    async def move(given: str | Path | None) -> str | None:
        if given is not None and str(given).lower().startswith(("http://", "https://")):
            given = uploaded(str(given), Path(gr.utils.get_upload_folder()))
        return await keep(given)

    component.async_move_resource_to_block_cache = move  # type: ignore[method-assign]


def uploaded(address: str, cache: Path) -> str:
    """The path inside ``cache`` that an address of ours names; raises gr.Error for any other."""
    own = OWN.fullmatch(unquote(urlsplit(address).path))
    if own is None or not is_upload(own["path"], cache):
        raise gr.Error(NOTHING_FETCHED, print_exception=False)
    return own["path"]


def is_upload(path: Any, cache: Path) -> bool:
    """Whether a client's value is the path of a file inside ``cache``."""
    if not isinstance(path, str) or "\0" in path or not Path(path).is_file():
        return False
    return Path(path).resolve().is_relative_to(cache.resolve())
