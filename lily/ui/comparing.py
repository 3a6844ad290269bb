"""The answer of a comparison: one player for everything, pictures, distances, files to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lily.dsp.mix import FORMATS
from lily.evaluation.comparison import Comparison, figures
from lily.events import ComparisonResult
from lily.ui.mixes import GAIN_DB
from lily.ui.report import comparison_facts, scores
from lily.ui.widget import widget

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
    files: gr.Files
    keep: Callable[[ComparisonResult], str]  # names a comparison for the player's downloads

    @property
    def outputs(self) -> list[gr.Component]:
        """Everything a run may change."""
        parts = (self.player, self.facts, self.scores, self.takes, self.difference, self.files)
        return [self.column, *parts]

    def show(self, comparison: Comparison | None) -> dict[Any, Any]:
        """Component updates that show ``comparison``, or hide the view."""
        if comparison is None:
            return {
                self.column: gr.update(visible=False),
                self.player: NOTHING,
                self.takes: None,
                self.difference: None,
                self.files: None,
            }
        off, on, difference = map(str, comparison.pictures)
        return {
            self.column: gr.update(visible=True),
            self.player: player_value(comparison, self.keep(comparison.result)),
            self.facts: comparison_facts(comparison),
            self.scores: scores(comparison),
            self.takes: (off, on),
            self.difference: difference,
            self.files: [str(path) for path in (*comparison.files.values(), comparison.figures)],
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
        table = widget("scores", NO_SCORES, label="Distances", elem_id="scores")
        pictures = {"show_label": False, "type": "filepath", "format": "png", "interactive": False}
        with gr.Row():
            with gr.Column(min_width=320):
                takes = gr.ImageSlider(
                    label="Spectrogram, encoder off and on",
                    buttons=["fullscreen"],
                    elem_id="takes",
                    **pictures,
                )
            with gr.Column(min_width=320):
                difference = gr.Image(
                    label="Difference spectrogram, on against off",
                    buttons=["fullscreen"],
                    elem_id="difference",
                    **pictures,
                )
        files = gr.Files(label="Files", interactive=False, elem_id="files")
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
        "gain_db": list(GAIN_DB),
        "formats": [{"key": key, "label": label} for key, label in FORMATS.items()],
    }
