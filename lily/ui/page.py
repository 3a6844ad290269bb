"""Lay the page out and wire it: a recording and one button, the player, two public endpoints.

All handlers that need the engine share a concurrency group of one, so that a second visitor waits
and sees how many runs are before theirs. ``/upsample`` and ``/compare`` are its contract with
programs.
"""

from __future__ import annotations

import html
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lily.ui.about import about
from lily.ui.answer import Answer, player
from lily.ui.archive import Archive
from lily.ui.cache import Cache
from lily.ui.controls import QUIET, Controls, controls
from lily.ui.endpoints import Endpoints
from lily.ui.estimate import Pace
from lily.ui.examples import NAMES, example
from lily.ui.handlers import Handlers
from lily.ui.mixes import Mixes
from lily.ui.settings import Settings
from lily.ui.shares import Shares
from lily.ui.shelf import EngineShelf
from lily.ui.uploads import uploads_only
from lily.ui.waiting import ENGINE, Waiting

TITLE = "Lily"
LEAD = "Gives a recording its missing highs. What was there stays; what is new is generated."
NEVER = 10 * 365 * 86_400  # seconds
AT_ONCE: dict[str, Any] = {
    "concurrency_limit": None,  # never waits; yet queued, or its error would have no words
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    "api_visibility": "private",
}
ENGINE_QUEUE = {"concurrency_id": ENGINE, "concurrency_limit": 1}


def cache_of(settings: Settings) -> Cache:
    """Gradio's cache folder, where everything temporary lies, with the limits of ``settings``."""
    folder = Path(gr.utils.get_upload_folder())
    return Cache(folder, settings.keep_seconds, settings.cache_mb * 1e6)


def build_page(shelf: EngineShelf, settings: Settings, cache: Cache, notice: str = "") -> gr.Blocks:
    """Make the page, with a notice above it; theme, CSS and addresses belong to ``launch``."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        # ``cache`` removes files: it knows what is in use. Gradio would look at the age alone.
        delete_cache=(NEVER, NEVER),
    ) as page:
        gr.Markdown(f"# {TITLE}\n{LEAD}", elem_id="title")
        if notice:
            gr.HTML(f"<p role='status'>{html.escape(notice)}</p>", elem_id="notice")
        with gr.Row(equal_height=False, elem_id="columns"):
            with gr.Column(scale=2, min_width=320, elem_id="question"):
                mixes = Mixes()
                waiting = Waiting(shelf)
                left = controls(shelf, settings, Archive(mixes, cache), waiting)
            with gr.Column(scale=4, min_width=320, elem_id="answer"):
                with gr.Row(elem_id="examples"):
                    buttons = [
                        (gr.Button(name, size="sm", min_width=90), key)
                        for key, name in NAMES.items()
                    ]
                shown = player(mixes, example(next(iter(NAMES))))
                shares = Shares(mixes) if settings.share else None
                right = Answer(left.progress, shown, mixes, shares)
        gr.Markdown(about(settings.space, settings.model), elem_id="about")
        pace = Pace()
        handlers = Handlers(shelf, settings, cache, left, right, pace)
        for button, key in buttons:
            button.click(partial(handlers.show_example, key), None, right.player, **QUIET)
        _wire(page, handlers, left, right)
        _endpoints(Endpoints(shelf, cache, settings, pace), shelf)
    for block in page.blocks.values():
        uploads_only(block)
    waiting.page = page
    return page.queue(max_size=settings.queue_places)


def _wire(page: gr.Blocks, handlers: Handlers, left: Controls, right: Answer) -> None:
    """Connect the controls: a run starts at once, waits for the engine, and can be stopped."""
    changed = [*right.outputs, *left.buttons]
    running = {
        "show_progress": "hidden",  # the panel says more, also while its visitor waits
        # A stopped run ends with its step. "once" would drop, without a word, a run that is
        # asked for in between; the queue makes it wait. Two at once: arm() disables Restore.
        "trigger_mode": "multiple",
        "api_visibility": "private",
        **ENGINE_QUEUE,
    }
    page.load(handlers.check_encoder, left.preset, left.comparable, **QUIET)
    if right.shares:
        page.load(handlers.show_shared, None, right.outputs, **QUIET)
    left.use.change(handlers.choose_use, left.use, left.cutoff, **QUIET)
    left.preset.change(
        handlers.change_preset,
        left.preset,
        [left.steps, left.seed, left.guidance, left.sampler, *left.comparable],
        **QUIET,
    )
    left.recording.change(
        handlers.name_recording, left.recording, [left.recording, left.restore], **QUIET
    )
    armed = gr.on(
        [left.restore.click, left.recording.upload, left.recording.stop_recording],
        handlers.arm,
        left.recording,
        changed,
        **AT_ONCE,
    )
    armed_again = gr.on(
        [right.player.retry, right.player.edit],
        handlers.arm_again,
        None,
        [*changed, left.recording, handlers.job],
        **AT_ONCE,
    )
    armed_file = left.queue.submit(
        handlers.arm_file, left.inputs, [*changed, left.recording, handlers.job], **AT_ONCE
    )
    runs = [
        armed.success(handlers.run, left.inputs, changed, **running),
        armed_again.success(handlers.run_again, handlers.job, changed, **running),
        armed_file.success(handlers.run_again, handlers.job, changed, **running),
    ]
    for run in runs:
        # Refused by a full queue, it never reached its handler, which gives the buttons back.
        run.failure(handlers.free, None, left.buttons, **QUIET)
        # A model that was downloaded just now says only now what it has.
        run.success(handlers.check_encoder, left.preset, left.comparable, **QUIET)
    ended = left.stop.click(
        handlers.stop, right.progress, [right.progress, *left.buttons], cancels=runs, **QUIET
    )
    ended.then(handlers.stopped, right.progress, changed, **QUIET)
    page.unload(handlers.leave)


def _endpoints(endpoints: Endpoints, shelf: EngineShelf) -> None:
    """Offer what programs may call, with inputs of its own: bounds are the engine's."""
    hidden = {"visible": False}
    recording = gr.Audio(label="Recording", type="filepath", **hidden)
    preset = gr.Dropdown(shelf.presets, value=shelf.presets[0], label="Model preset", **hidden)
    encoder = gr.Radio(["on", "off", "both"], value="on", label="Encoder", **hidden)
    settings = [
        gr.Number(label="Steps", precision=0, **hidden),
        gr.Number(label="Seed", precision=0, **hidden),
        gr.Textbox(label="Sampler", value=None, **hidden),
        gr.Number(label="Guidance", **hidden),
        gr.Textbox(label="Cutoff (Hz)", value=None, **hidden),
    ]
    reference = gr.Audio(label="Reference", type="filepath", **hidden)
    known = [
        gr.File(label="Context", file_count="multiple", type="filepath", **hidden),
        gr.Number(label="Wall (Hz)", value=None, **hidden),
        gr.Number(label="Brightness (dB)", value=None, **hidden),
    ]
    outputs = [
        gr.File(label="Files", file_count="multiple", **hidden),
        gr.JSON(label="Figures", **hidden),
    ]
    for name, function, inputs in (
        ("upsample", endpoints.upsample, [recording, preset, encoder, *settings, *known]),
        ("compare", endpoints.compare, [recording, preset, *settings, reference, *known]),
    ):
        gr.Button(**hidden).click(function, inputs, outputs, api_name=name, **ENGINE_QUEUE)
