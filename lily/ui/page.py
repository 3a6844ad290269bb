"""Lay the page out and wire it: two columns, one queue, two public endpoints.

Whatever needs the engine shares one concurrency group of one, so that a second visitor waits and
sees the position. ``/upsample`` and ``/compare`` are its contract with programs.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr

from lily.ui.answer import Answer, answer
from lily.ui.cache import Cache
from lily.ui.controls import Controls, controls
from lily.ui.handlers import Handlers
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.uploads import uploads_only

TITLE = "Lily"
LEAD = (
    "Restores the missing top of a recording: any sample rate in, 48 kHz out. "
    "The new highs are plausible, not recovered."
)
NEVER = 10 * 365 * 86_400  # seconds
ENGINE_QUEUE = {"concurrency_id": "engine", "concurrency_limit": 1}


def cache_of(settings: Settings) -> Cache:
    """Gradio's cache folder, where everything temporary lies, with the limits of ``settings``."""
    folder = Path(gr.utils.get_upload_folder())
    return Cache(folder, settings.keep_seconds, settings.cache_mb * 1e6)


def build_page(shelf: EngineShelf, settings: Settings, cache: Cache, notice: str = "") -> gr.Blocks:
    """Make the page, with a notice above it; theme, CSS and addresses belong to ``launch``."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        # Gradio removes what is left when it ends. Until then ``cache`` does: it knows what is in
        # use, and Gradio, which would look at the age alone, is never to look.
        delete_cache=(NEVER, NEVER),
    ) as page:
        gr.Markdown(f"# {TITLE}\n{LEAD}", elem_id="title")
        if notice:
            gr.HTML(f"<p role='status'>{html.escape(notice)}</p>", elem_id="notice")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320, elem_id="question"):
                left = controls(shelf, settings)
                for component in (left.recording, left.reference):
                    uploads_only(component)
            with gr.Column(scale=3, min_width=320):
                right = answer()
        handlers = Handlers(shelf, settings, cache, left, right)
        left.preset.change(
            handlers.change_preset,
            left.preset,
            [left.steps, left.seed, left.guidance, left.sampler, *left.comparable],
            queue=False,
            api_visibility="private",
        )
        _wire(page, handlers, left, right)
        _endpoints(handlers, shelf)
    return page.queue(max_size=settings.queue_places)


def _wire(page: gr.Blocks, handlers: Handlers, left: Controls, right: Answer) -> None:
    """Connect the buttons: each starts at once, waits for the engine, and can be stopped."""
    changed = [*right.outputs, *left.buttons]
    asked = [*left.inputs, left.reference]
    checking = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    page.load(handlers.check_encoder, left.preset, left.comparable, **checking)

    def started(click: gr.events.Dependency, run: Callable, inputs: list[gr.Component]):
        armed = click(
            handlers.arm,
            [left.recording, left.preset],
            changed,
            concurrency_limit=None,  # never waits; yet queued, or its error would have no words
            show_progress="hidden",
            api_visibility="private",
        )
        return armed.success(
            run,
            inputs,
            changed,
            show_progress="minimal",
            show_progress_on=right.progress,
            # A stopped run ends with its step. "once" would drop, without a word, a run that is
            # asked for in between; the queue makes it wait. Two at once: arm() disables Run.
            trigger_mode="multiple",
            api_visibility="private",
            **ENGINE_QUEUE,
        )

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    running = [
        started(left.run.click, handlers.run, left.inputs),
        started(left.compare.click, handlers.run_comparison, asked),
    ]
    for button, example in left.examples:
        chosen = button.click(
            partial(handlers.choose, example),
            left.preset,
            [left.recording, left.cutoff, left.reference, left.tabs],
            queue=False,
            **quiet,
        )
        running.append(started(chosen.success, handlers.run_comparison, asked))
    for run in running:
        # Refused by a full queue, it never reached its handler, which gives the buttons back.
        run.failure(handlers.free, left.preset, left.buttons, queue=False, **quiet)
        # A model that was downloaded just now says only now what it has.
        run.success(handlers.check_encoder, left.preset, left.comparable, **checking)
    ended = left.stop.click(
        handlers.stop,
        [right.progress, left.preset],
        [right.progress, *left.buttons],
        cancels=running,
        queue=False,
        **quiet,
    )
    ended.then(handlers.stopped, [right.progress, left.preset], changed, queue=False, **quiet)
    page.unload(handlers.leave)


def _endpoints(handlers: Handlers, shelf: EngineShelf) -> None:
    """Offer what programs may call, with inputs of its own: bounds are the engine's."""
    hidden = {"visible": False}
    recording = uploads_only(gr.Audio(label="Recording", type="filepath", **hidden))
    preset = gr.Dropdown(shelf.presets, value=shelf.presets[0], label="Model preset", **hidden)
    encoder = gr.Radio(["on", "off", "both"], value="on", label="Encoder", **hidden)
    settings = [
        gr.Number(label="Steps", precision=0, **hidden),
        gr.Number(label="Seed", precision=0, **hidden),
        gr.Textbox(label="Sampler", value=None, **hidden),
        gr.Number(label="Guidance", **hidden),
        gr.Textbox(label="Cutoff (Hz)", value=None, **hidden),
    ]
    reference = uploads_only(gr.Audio(label="Reference", type="filepath", **hidden))
    outputs = [
        gr.File(label="Files", file_count="multiple", **hidden),
        gr.JSON(label="Figures", **hidden),
    ]
    for name, function, inputs in (
        ("upsample", handlers.upsample, [recording, preset, encoder, *settings]),
        ("compare", handlers.compare, [recording, preset, *settings, reference]),
    ):
        gr.Button(**hidden).click(function, inputs, outputs, api_name=name, **ENGINE_QUEUE)
