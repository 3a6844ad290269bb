"""The left column: the recording, one button, and all settings in one closed section.

Every default, minimum and maximum comes from the preset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lily.config.inference import InferenceConfig
from lily.ui.answer import progress_panel
from lily.ui.archive import Archive, queue_panel
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.uses import USES
from lily.ui.waiting import Waiting

QUIET: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}


@dataclass(frozen=True)
class Controls:
    """The components a visitor sets, in the order of ``lily.ui.handlers.Handlers.run``."""

    recording: gr.Audio
    restore: gr.Button
    stop: gr.Button
    progress: gr.HTML
    queue: gr.HTML
    compare: gr.Checkbox
    use: gr.Radio
    cutoff: gr.Textbox
    steps: gr.Slider
    guidance: gr.Slider
    seed: gr.Textbox
    encoder: gr.Radio
    sampler: gr.Dropdown
    preset: gr.Dropdown
    reference: gr.Audio
    context: gr.File
    wall: gr.Textbox
    brightness: gr.Slider

    @property
    def inputs(self) -> list[gr.Component]:
        """Those that describe a request."""
        return [
            self.recording,
            self.preset,
            self.encoder,
            self.steps,
            self.seed,
            self.sampler,
            self.guidance,
            self.cutoff,
            self.compare,
            self.reference,
            self.context,
            self.wall,
            self.brightness,
        ]

    @property
    def comparable(self) -> list[gr.Component]:
        """What depends on the model's encoder."""
        return [self.encoder, self.compare, self.context]

    @property
    def buttons(self) -> list[gr.Button]:
        """What starts and ends runs."""
        return [self.restore, self.stop]


def controls(
    shelf: EngineShelf, settings: Settings, archive: Archive, waiting: Waiting
) -> Controls:
    """Build the column inside the current Blocks context."""
    first = shelf.presets[0]
    bounds, note = shelf.bounds(first), shelf.encoder_note(first)
    recording = gr.Audio(
        label=recording_label(settings),
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],  # Gradio's share button would send the recording to another host
        waveform_options=gr.WaveformOptions(show_recording_waveform=False),  # decodes all of it
        elem_id="recording",
    )
    with gr.Row(elem_id="action"):
        restore = gr.Button(
            "Restore",
            variant="primary",
            elem_id="restore",
            interactive=False,
            min_width=140,
            scale=3,
        )
        stop = gr.Button(
            "Stop", variant="stop", elem_id="stop", interactive=False, min_width=90, scale=1
        )
    progress = progress_panel(waiting)
    queue = queue_panel(archive)
    compare = gr.Checkbox(**compare_choice(note), elem_id="compare")
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        chosen = _settings(shelf, bounds, note)
    with gr.Accordion("Adjust: what you know of the original", open=False, elem_id="adjust"):
        chosen |= _known(shelf.context_note(first))
    return Controls(
        recording=recording,
        restore=restore,
        stop=stop,
        progress=progress,
        queue=queue,
        compare=compare,
        **chosen,
    )


def _settings(shelf: EngineShelf, bounds: InferenceConfig, note: str) -> dict[str, Any]:
    """Everything that has a good default."""
    return {
        "use": gr.Radio(
            [use.name for use in USES],
            value=USES[0].name,
            label="The recording is",
            info="Fills in the cutoff. "
            + "; ".join(f"{use.name}: {use.why}" for use in USES)
            + ".",
            elem_id="use",
        ),
        # Fields that may stay empty are text: Gradio's number field shows and sends 0 for empty.
        "cutoff": gr.Textbox(
            label="Cutoff (Hz)",
            info="Below it the recording is kept, above it highs are generated. Where it changes: "
            "0:4000,62.5:20000 is 4 kHz from the start and 20 kHz from 62.5 s on.",
            placeholder="detected",
            max_lines=1,
        ),
        "steps": gr.Slider(**steps_bounds(bounds), interactive=True),
        "guidance": gr.Slider(**guidance_bounds(bounds), interactive=True),
        "seed": gr.Textbox(**seed_field(bounds)),
        "encoder": gr.Radio(["on", "off"], label="Encoder", **encoder_choice(note)),
        "sampler": gr.Dropdown(**sampler_choices(bounds), interactive=True),
        "preset": gr.Dropdown(
            shelf.presets,
            value=shelf.presets[0],
            label="Model",
            info="Larger models take longer; one that is not here yet is downloaded first.",
            interactive=True,
        ),
        "reference": gr.Audio(
            label="Reference: the full-band original, if you have it",
            sources=["upload"],
            type="filepath",
            editable=False,
            buttons=[],
            waveform_options=gr.WaveformOptions(show_recording_waveform=False),
            elem_id="reference",
        ),
    }


def _known(note: str) -> dict[str, Any]:
    """What a user may know of the original besides the recording."""
    wall = "At most 24000: the generated highs end here, as those of the original did."
    brightness = "-12 to 12: makes the generated highs louder or quieter."
    return {
        "context": gr.File(
            file_count="multiple", type="filepath", height=110, **context_choice(note)
        ),
        "wall": gr.Textbox(
            label="Upper end of the highs (Hz)", info=wall, placeholder="as generated", max_lines=1
        ),
        "brightness": gr.Slider(-12, 12, value=0, step=1, label="Brightness (dB)", info=brightness),
    }


def context_choice(note: str) -> dict[str, Any]:
    """The field for other recordings, hidden where the model takes none."""
    context = "Another recording of the same voice, band or album that has its highs"
    return {"label": context, "visible": not note}


def recording_label(settings: Settings, name: str = "") -> str:
    """What stands over the recording: its file name, or the limit."""
    return name or f"Your recording (up to {settings.max_seconds / 60:g} min)"


def compare_choice(note: str) -> dict[str, Any]:
    """The comparison's checkbox, greyed with the reason where there is nothing to compare."""
    return {
        "label": "Compare encoder off and on",
        "value": False,
        "info": f"There is nothing to compare. {note}"
        if note
        else "Restores it twice, without and with having listened to the whole recording first. "
        "Takes about twice as long.",
        "interactive": not note,
    }


def encoder_choice(note: str) -> dict[str, Any]:
    """The encoder's switch: on, or off and greyed with the reason."""
    if note:
        return {"value": "off", "info": note, "interactive": False}
    return {
        "value": "on",
        "info": "On: listens to the whole recording first. Worth it where parts of it still have "
        "their highs (13 % nearer to the original); little changes elsewhere. Off: hears only 5 s "
        "at a time, as AudioSR does; slightly faster.",
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
        "info": f"{low} to {high}. More take longer and give finer detail, up to a point.",
    }


def seed_field(bounds: InferenceConfig) -> dict[str, Any]:
    """What the seed field shows for a preset."""
    return {
        "label": "Seed",
        "info": f"0 to {bounds.seed_max}. Another seed gives other highs that fit as well; "
        "the same one gives the same file.",
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
        "info": "How noise becomes sound; the model's own is the one it was tuned with.",
    }
