"""The page under axe-core: idle, running and done, in both themes, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import NEEDED, PLAYER, start, wait_for_result
from fakes import write_recording

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    *NEEDED,
    pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm ci"),
]
# Of Gradio's own making: the upload area's and the players' buttons (their label is not their
# text), and what it draws inside its waveform.
GRADIO = ("#recording", "#reference", "footer", ".toast-wrap")


def violations(page) -> list[str]:
    """What axe-core finds wrong, one line an element."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("exclude => axe.run({exclude})", [[name] for name in GRADIO])
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_axe_finds_nothing_wrong(visit, tmp_path, theme, width, height):
    page = visit(width, height, theme)
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    page.get_by_role("button", name="Settings").click()
    page.click("#player .blind summary")
    page.wait_for_timeout(500)  # colours fade in
    assert violations(page) == []
    recording = write_recording(tmp_path / "take.wav", 8_000, 1, 12.0)
    start(page, recording, steps=8)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    assert violations(page) == []
    wait_for_result(page, recording)
    page.click("#player .figures summary")
    page.click("#player .library summary")
    page.wait_for_timeout(500)
    assert violations(page) == []
