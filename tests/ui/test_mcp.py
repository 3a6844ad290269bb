"""A real MCP client over HTTP calls the tools with a file, in each of the ways the README tells."""

from __future__ import annotations

import ast
import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from coroutines import finish
from live import running, upload

mcp = pytest.importorskip("mcp", reason='needs an MCP client: pip install "gradio[mcp]==6.31.0"')

from mcp.client.streamable_http import streamablehttp_client  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The real app on the bundled model, its tools on."""
    with running(tmp_path_factory.mktemp("mcp")) as started:
        yield started


@pytest.fixture
def recording(tmp_path) -> Path:
    """Two seconds of noise at 8 kHz."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "call.wav", noise, 8_000)
    return tmp_path / "call.wav"


def call(app, tool: str, **arguments) -> tuple[bool, str]:
    """Call a tool from a session of its own: whether it failed, and its text."""

    async def answer():
        async with (
            streamablehttp_client(f"{app.api}/mcp/") as (read, write, _),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            names = {tool.name for tool in (await session.list_tools()).tools}
            assert names == {"upsample", "compare"}
            told = await session.call_tool(tool, arguments)
            return bool(told.isError), told.content[0].text

    return finish(answer())


def test_a_recording_goes_as_the_address_of_its_upload(app, recording):
    with httpx.Client() as client:
        path = upload(client, app, recording.name, recording.read_bytes())
        failed, text = call(app, "upsample", audio=f"{app.api}/file={path}", seed=3)
        assert not failed, text
        ((files, figures),) = [ast.literal_eval(text)]
        assert figures["results"][0]["seed"] == 3
        data = client.get(files[0]["url"]).content
    (recording.parent / "out.wav").write_bytes(data)
    info = soundfile.info(recording.parent / "out.wav")
    assert (info.samplerate, info.frames) == (48_000, 96_000)


def test_a_recording_goes_as_a_data_url(app, recording):
    data = "data:audio/wav;base64," + base64.b64encode(recording.read_bytes()).decode()
    failed, text = call(app, "compare", audio=data, seed=3)
    assert not failed, text
    files, figures = ast.literal_eval(text)
    assert len(files) == 3 and figures["seed"] == 3 and figures["chunks"]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/a.wav", "http://169.254.169.254/a.wav", "https://example.org/a.wav"],
)
def test_other_addresses_are_fetched_for_nobody(app, address):
    failed, text = call(app, "upsample", audio=address)
    assert failed and "fetches nothing from other addresses" in text
