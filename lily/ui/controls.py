"""The left column: the question. Every default, minimum and maximum comes from the preset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lily.config.inference import InferenceConfig
from lily.ui.examples import EXAMPLES
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf


@dataclass(frozen=True)
class Controls:
    """The components a visitor sets, in the order of ``lily.ui.handlers.Handlers.page``."""

    recording: gr.Audio
    preset: gr.Dropdown
    encoder: gr.Radio
    steps: gr.Slider
    seed: gr.Textbox
    sampler: gr.Dropdown
    guidance: gr.Slider
    cutoff: gr.Textbox
    run: gr.Button
    tabs: gr.Tabs
    reference: gr.Audio
    compare: gr.Button
    stop: gr.Button
    examples: tuple[tuple[gr.Button, Path], ...]
    compare_note: gr.Markdown

    @property
    def inputs(self) -> list[gr.Component]:
        """The eight that describe a request."""
        return [
            self.recording,
            self.preset,
            self.encoder,
            self.steps,
            self.seed,
            self.sampler,
            self.guidance,
            self.cutoff,
        ]

    @property
    def comparable(self) -> list[gr.Component]:
        """What says whether a model has an encoder to switch and to compare."""
        return [self.encoder, self.compare_note, self.compare]

    @property
    def buttons(self) -> list[gr.Button]:
        """What starts and ends runs."""
        return [self.run, self.compare, self.stop, *(button for button, _ in self.examples)]


def controls(shelf: EngineShelf, settings: Settings) -> Controls:
    """Build the column inside the current Blocks context."""
    first = shelf.presets[0]
    bounds = shelf.bounds(first)
    recording = gr.Audio(
        label=f"Recording (up to {settings.max_seconds / 60:g} min)",
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],  # Gradio's share button would send the recording to another host
        elem_id="recording",
    )
    with gr.Row(elem_id="examples"):
        examples = tuple(
            (gr.Button(name, size="sm", min_width=110), example)
            for name, example in EXAMPLES.items()
        )
    preset = gr.Dropdown(
        shelf.presets,
        value=first,
        label="Model preset",
        info="Larger models take longer; one that is not here yet is downloaded at its first run.",
        interactive=True,
    )
    with gr.Row():
        steps = gr.Slider(**steps_bounds(bounds), interactive=True, min_width=200, scale=3)
        seed = gr.Textbox(**seed_field(bounds), min_width=140, scale=2)
    with gr.Accordion("More settings", open=False):
        sampler = gr.Dropdown(**sampler_choices(bounds), interactive=True)
        guidance = gr.Slider(**guidance_bounds(bounds), interactive=True)
        # Fields that may stay empty are text: Gradio's number field shows and sends 0 for empty.
        cutoff = gr.Textbox(
            label="Cutoff (Hz)",
            info="Below it the recording is kept, above it sound is generated. Where it changes: "
            "0:4000,62.5:20000 is 4 kHz from the start and 20 kHz from 62.5 s on.",
            placeholder="detected",
            max_lines=1,
        )
    task = _task(shelf.encoder_note(first))
    return Controls(
        recording=recording,
        preset=preset,
        steps=steps,
        seed=seed,
        sampler=sampler,
        guidance=guidance,
        cutoff=cutoff,
        examples=examples,
        **task,
    )


def _task(note: str) -> dict[str, Any]:
    """What to do with the recording, a tab each; only the chosen tab's button is shown."""
    with gr.Tabs(elem_id="tasks") as tabs:
        with gr.Tab("Upsample", id="upsample") as upsampling:
            encoder = gr.Radio(["on", "off"], label="Encoder", **encoder_choice(note))
        with gr.Tab("Compare", id="compare") as comparing:
            compare_note = gr.Markdown(**nothing_to_compare(note), elem_id="compare-note")
            reference = gr.Audio(
                label="Reference (optional)",
                sources=["upload"],
                type="filepath",
                editable=False,
                buttons=[],
                elem_id="reference",
            )
    with gr.Row():
        primary = {"variant": "primary", "min_width": 120, "scale": 2}
        run = gr.Button("Run", elem_id="run", **primary)
        compare = gr.Button(
            "Compare", elem_id="compare", visible=False, interactive=not note, **primary
        )
        stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, min_width=90)
    for tab, shown in ((upsampling, run), (comparing, compare)):
        tab.select(
            lambda shown=shown: {b: gr.update(visible=b is shown) for b in (run, compare)},
            None,
            [run, compare],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    return {
        "tabs": tabs,
        "encoder": encoder,
        "reference": reference,
        "run": run,
        "compare": compare,
        "stop": stop,
        "compare_note": compare_note,
    }


def nothing_to_compare(note: str) -> dict[str, Any]:
    """What the Compare tab shows where a ``note`` says that the encoder has no effect."""
    told = f"There is nothing to compare. {note}" if note else ""
    return {"value": told, "visible": bool(note)}


def encoder_choice(note: str) -> dict[str, Any]:
    """What the encoder switch shows; a ``note`` says why there is nothing to choose."""
    if note:
        return {"value": "off", "info": note, "interactive": False}
    return {
        "value": "on",
        "info": "On: every chunk is filled in knowing the whole recording.",
        "interactive": True,
    }


def steps_bounds(bounds: InferenceConfig) -> dict[str, Any]:
    """What the steps slider shows for a preset."""
    low, high = bounds.steps.min, bounds.steps.max
    return {
        "minimum": low,
        "maximum": high,
        "step": 1,
        "value": bounds.steps.default,
        "label": "Steps",
        "info": f"{low} to {high}. More steps take longer.",
    }


def seed_field(bounds: InferenceConfig) -> dict[str, Any]:
    """What the seed field shows for a preset."""
    return {
        "label": "Seed",
        "info": f"0 to {bounds.seed_max}. Same seed, same result.",
        "placeholder": "random",
        "max_lines": 1,
    }


def guidance_bounds(bounds: InferenceConfig) -> dict[str, Any]:
    """What the guidance slider shows for a preset."""
    low, high = bounds.guidance.min, bounds.guidance.max
    return {
        "minimum": low,
        "maximum": high,
        "step": 0.1,
        "value": bounds.guidance.default,
        "label": "Guidance",
        "info": f"{low:g} to {high:g}. Higher holds the highs closer to the recording; 1 turns it "
        "off and halves the work.",
    }


def sampler_choices(bounds: InferenceConfig) -> dict[str, Any]:
    """What the sampler menu shows for a preset."""
    return {
        "choices": list(bounds.samplers),
        "value": bounds.sampler,
        "label": "Sampler",
        "info": "How noise becomes sound; the preset's own is the one it was tuned with.",
    }
