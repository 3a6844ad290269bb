"""The answer of a comparison: one player for everything, pictures, distances, files to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lily.audio.mix import FORMATS
from lily.evaluation.comparison import EQUAL_DB, Comparison, figures
from lily.inference.events import ComparisonResult
from lily.ui.mixes import GAIN_DB
from lily.ui.report import comparison_facts, scores
from lily.ui.widget import widget

FILES = ("Encoder off", "Encoder on", "Difference", "Figures")
NOTHING: dict[str, Any] = {"sources": []}
NO_FACTS = {"note": "", "facts": []}
NO_SCORES = {"caption": "", "columns": [], "rows": []}


@dataclass(frozen=True)
class ComparisonView:
    """Where a comparison is heard, seen and fetched."""

    column: gr.Column
    player: gr.HTML
    facts: gr.HTML
    scores: gr.HTML
    takes: gr.ImageSlider
    difference: gr.Image
    files: tuple[gr.DownloadButton, ...]
    keep: Callable[[ComparisonResult], str]  # names a comparison for the player's downloads

    @property
    def outputs(self) -> list[gr.Component]:
        """Everything a run may change."""
        parts = (self.player, self.facts, self.scores, self.takes, self.difference)
        return [self.column, *parts, *self.files]

    def show(self, comparison: Comparison | None) -> dict[Any, Any]:
        """Component updates that show ``comparison``, or hide the view."""
        if comparison is None:
            return {
                self.column: gr.update(visible=False),
                self.player: NOTHING,
                self.takes: None,
                self.difference: None,
            } | {button: gr.update(value=None) for button in self.files}
        off, on, difference = map(str, comparison.pictures)
        updates = {
            self.column: gr.update(visible=True),
            self.player: player_value(comparison, self.keep(comparison.result)),
            self.facts: comparison_facts(comparison),
            self.scores: gr.update(value=scores(comparison), visible=bool(comparison.distances)),
            self.takes: (off, on),
            self.difference: difference,
        }
        kept = (*list(comparison.files.values())[: len(FILES) - 1], comparison.figures)
        return updates | {
            button: gr.update(value=str(path), label=path.name)
            for button, path in zip(self.files, kept, strict=True)
        }


def comparison_view(
    keep: Callable[[ComparisonResult], str], render: Callable[[Any], dict[str, str]]
) -> ComparisonView:
    """Build the view inside the current Blocks context; ``render`` makes the mix it is asked."""

    def mix(asked: Any) -> dict[str, str]:  # Gradio marks it, and a method cannot be marked
        return render(asked)

    with gr.Column(visible=False, min_width=320, elem_id="comparison") as column:
        player = widget(
            "player",
            NOTHING,
            scripts=("wav", "transport", "blind_test"),
            label="Player",
            elem_id="player",
            container=True,
            padding=True,
            server_functions=[mix],
        )
        facts = widget("facts", NO_FACTS, label="Facts", elem_id="comparison-facts")
        table = widget("scores", NO_SCORES, label="Distances", elem_id="scores", visible=False)
        pictures = {"show_label": False, "type": "filepath", "format": "png", "interactive": False}
        with gr.Tabs():
            with gr.Tab("Off and on"):
                takes = gr.ImageSlider(
                    label="Spectrogram, encoder off and on",
                    buttons=["fullscreen"],
                    elem_id="takes",
                    **pictures,
                )
            with gr.Tab("Difference"):
                difference = gr.Image(
                    label="Difference spectrogram, on against off",
                    buttons=["fullscreen"],
                    elem_id="difference",
                    **pictures,
                )
        with gr.Row(elem_id="files"):
            files = tuple(gr.DownloadButton(name, size="sm", min_width=120) for name in FILES)
    return ComparisonView(column, player, facts, table, takes, difference, files, keep)


def player_value(comparison: Comparison, run: str) -> dict[str, Any]:
    """What the player's JavaScript draws: sources, chunks and the limits of the mix.

    Paths lie in Gradio's cache, where it serves them.
    """
    result = comparison.result
    paths = {
        ("input", "Input"): result.recording,
        ("off", "Encoder off"): result.off.output,
        ("on", "Encoder on"): result.on.output,
        ("reference", "Reference"): comparison.reference,
    }
    told = figures(comparison)
    return {
        "run": run,
        "name": result.off.output.name.removesuffix(".off.wav"),
        "seed": result.on.seed,
        "seconds": result.on.samples / result.on.sample_rate,
        "sources": [
            {"key": key, "label": label, "path": str(path)}
            for (key, label), path in paths.items()
            if path
        ],
        "low": str(result.low),
        "chunks": told["chunks"],
        "scale_db": [EQUAL_DB, 0],
        "gain_db": list(GAIN_DB),
        "formats": [{"key": key, "label": label} for key, label in FORMATS.items()],
    }
