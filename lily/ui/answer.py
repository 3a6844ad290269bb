"""The right column: the answer. Progress, a take or a comparison, the equivalent command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lily.ui.comparing import ComparisonView, comparison_view
from lily.ui.mixes import Mixes
from lily.ui.progress import Progress, idle
from lily.ui.report import facts
from lily.ui.run import Snapshot, Take
from lily.ui.widget import widget

# Above this many seconds a browser would decode gigabytes to draw a waveform; it streams instead.
WAVEFORM_SECONDS = 600.0


@dataclass(frozen=True)
class TakeCard:
    """Where one finished file is heard, seen and fetched."""

    column: gr.Column
    title: gr.Markdown
    player: gr.Audio
    facts: gr.HTML
    download: gr.DownloadButton
    pictures: gr.ImageSlider

    @property
    def outputs(self) -> list[gr.Component]:
        """Everything a run may change."""
        parts = (self.title, self.player, self.facts, self.download, self.pictures)
        return [self.column, *parts]

    def show(self, take: Take | None) -> dict[Any, Any]:
        """Component updates that show ``take``, or hide the card."""
        if take is None:
            empty = {self.player: None, self.download: gr.update(value=None), self.pictures: None}
            return {self.column: gr.update(visible=False), **empty}
        waveform = gr.WaveformOptions(
            show_recording_waveform=take.result.seconds <= WAVEFORM_SECONDS
        )
        path = str(take.result.output)
        return {
            self.column: gr.update(visible=True),
            self.title: f"### {take.label.capitalize()}",
            self.player: gr.update(
                value=path, label=f"Result, {take.label}", waveform_options=waveform
            ),
            self.facts: gr.update(value=facts(take.result)),
            self.download: gr.update(value=path, label=f"Download {take.result.output.name}"),
            self.pictures: gr.update(
                value=take.pictures and tuple(map(str, take.pictures)),
                label=f"Spectrogram, before and after, {take.label}",
            ),
        }


@dataclass(frozen=True)
class Answer:
    """The components of the right column."""

    progress: gr.HTML
    card: TakeCard
    comparison: ComparisonView
    command: gr.Textbox

    @property
    def outputs(self) -> list[gr.Component]:
        """Everything a run may change."""
        return [self.progress, *self.card.outputs, *self.comparison.outputs, self.command]

    def show(self, snapshot: Snapshot) -> dict[Any, Any]:
        """Updates for ``snapshot``; results are sent once, with the last one.

        A player that is sent its file again would stop and rewind. Progress is in every answer,
        and as a bare value: Gradio streams the difference to the answer before, and a value
        followed by a skipped update would be merged into one broken object.
        """
        updates: dict[Any, Any] = {self.progress: snapshot.progress}
        if snapshot.comparison:
            updates |= self.comparison.show(snapshot.comparison)
        elif snapshot.takes:
            updates |= self.card.show(snapshot.takes[-1])
        if snapshot.takes:
            updates[self.command] = gr.update(value=snapshot.command, visible=True)
        return updates

    def clear(self) -> dict[Any, Any]:
        """Updates that take the last run's results away."""
        hidden = {self.command: gr.update(visible=False), self.progress: Progress([]).value()}
        return self.card.show(None) | self.comparison.show(None) | hidden


def answer() -> Answer:
    """Build the column inside the current Blocks context."""
    mixes = Mixes()
    progress = widget("chunk_map", idle(), label="Progress", elem_id="chunk-map", container=True)
    card = _card()
    view = comparison_view(mixes.keep, mixes.mix)
    command = gr.Textbox(
        label="The same from the command line",
        lines=2,
        interactive=False,
        visible=False,
        buttons=["copy"],
        elem_id="command",
    )
    return Answer(progress, card, view, command)


def _card() -> TakeCard:
    with gr.Column(visible=False, min_width=320, elem_id="take") as column:
        title = gr.Markdown(elem_classes="take")
        player = gr.Audio(
            label="Result", type="filepath", interactive=False, buttons=[], editable=False
        )
        line = widget("facts", {"note": "", "facts": []}, label="Facts")
        download = gr.DownloadButton("Download", variant="secondary", size="md")
        pictures = gr.ImageSlider(
            label="Spectrogram, before and after",
            show_label=False,  # the pictures carry their own titles, and a label would hide them
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            format="png",
        )
    return TakeCard(column, title, player, line, download, pictures)
