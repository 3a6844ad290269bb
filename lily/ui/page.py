"""Lay the page out and wire it: two columns, one queue, one public endpoint.

Whatever needs the engine shares one concurrency group of one, so that a second visitor waits and
sees the position. ``/upsample`` is the page's contract with programs; all else is private.
"""

from __future__ import annotations

import html

import gradio as gr

from lily.ui.answer import answer
from lily.ui.controls import controls
from lily.ui.handlers import Handlers
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf

TITLE = "Lily"
LEAD = (
    "Restores the missing top of a recording: any sample rate in, 48 kHz out. "
    "The new highs are plausible, not recovered."
)
ENGINE_QUEUE = {"concurrency_id": "engine", "concurrency_limit": 1}
CLEAN_EVERY = 3600  # seconds between looks for files older than Settings.keep_seconds


def build_page(shelf: EngineShelf, settings: Settings, notice: str = "") -> gr.Blocks:
    """Make the page, with a notice above it; theme, CSS and addresses belong to ``launch``."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(CLEAN_EVERY, settings.keep_seconds),
    ) as page:
        gr.Markdown(f"# {TITLE}\n{LEAD}", elem_id="title")
        if notice:
            gr.HTML(f"<p role='status'>{html.escape(notice)}</p>", elem_id="notice")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                left = controls(shelf, settings)
            with gr.Column(scale=3, min_width=320):
                right = answer()
        handlers = Handlers(shelf, settings, left, right)
        buttons = [left.run, left.stop]
        left.preset.change(
            handlers.change_preset,
            left.preset,
            [left.steps, left.seed, left.guidance, left.sampler, left.encoder],
            queue=False,
            api_visibility="private",
        )
        checking = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        page.load(handlers.check_encoder, left.preset, [left.encoder], **checking)
        armed = left.run.click(
            handlers.arm,
            left.recording,
            right.outputs + buttons,
            concurrency_limit=None,  # never waits; yet queued, or its error would have no words
            show_progress="hidden",
            api_visibility="private",
        )
        running = armed.success(
            handlers.run,
            left.inputs,
            right.outputs + buttons,
            show_progress="minimal",
            show_progress_on=right.progress,
            # A stopped run ends with its step. "once" would drop, without a word, a run that is
            # asked for in between; the queue makes it wait. Two at once: arm() disables Run.
            trigger_mode="multiple",
            api_visibility="private",
            **ENGINE_QUEUE,
        )
        running.success(handlers.check_encoder, left.preset, [left.encoder], **checking)
        left.stop.click(
            handlers.stop,
            right.progress,
            [right.progress, *buttons],
            cancels=running,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        _endpoint(handlers, shelf)
    return page.queue(max_size=settings.queue_places)


def _endpoint(handlers: Handlers, shelf: EngineShelf) -> None:
    """Offer ``/upsample`` with inputs of its own: their bounds are the engine's, not a widget's."""
    hidden = {"visible": False}
    inputs = [
        gr.Audio(label="Recording", type="filepath", **hidden),
        gr.Dropdown(shelf.presets, value=shelf.presets[0], label="Model preset", **hidden),
        gr.Radio(["on", "off", "both"], value="on", label="Encoder", **hidden),
        gr.Number(label="Steps", precision=0, **hidden),
        gr.Number(label="Seed", precision=0, **hidden),
        gr.Textbox(label="Sampler", value=None, **hidden),
        gr.Number(label="Guidance", **hidden),
        gr.Number(label="Cutoff (Hz)", **hidden),
    ]
    outputs = [
        gr.File(label="Files", file_count="multiple", **hidden),
        gr.JSON(label="Figures", **hidden),
    ]
    gr.Button(**hidden).click(
        handlers.upsample, inputs, outputs, api_name="upsample", **ENGINE_QUEUE
    )
