"""Where a run is answered: the progress under the button, and the player."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lily.ui.mixes import Mixes
from lily.ui.progress import idle
from lily.ui.run import Snapshot
from lily.ui.shares import Shares
from lily.ui.view import NOTHING, mixable, player_value
from lily.ui.waiting import Waiting
from lily.ui.widget import widget

SCRIPTS = (
    "files",
    "wav",
    "transport",
    "spectrum",
    "blind_test",
    "blind_panel",
    "results",
    "library",
    "takes",
    "loop",
    "shelf",
    "keys",
)


@dataclass(frozen=True)
class Answer:
    """The components that a run changes."""

    progress: gr.HTML
    player: gr.HTML
    mixes: Mixes
    shares: Shares | None = None  # None: results have no links

    @property
    def outputs(self) -> list[gr.Component]:
        """Everything a run may change."""
        return [self.progress, self.player]

    def show(self, snapshot: Snapshot) -> dict[Any, Any]:
        """Updates for ``snapshot``; the result is sent once, with the last one.

        A player that is sent its files again would stop and rewind. Progress is in every answer,
        and as a bare value: Gradio streams the difference to the answer before, and a value
        followed by a skipped update would be merged into one broken object. So is the player, from
        the first picture of an unfinished result on.
        """
        updates: dict[Any, Any] = {self.progress: snapshot.progress}
        if snapshot.heard:
            run = self.mixes.keep(mixable(snapshot.request, snapshot.heard))
            value = player_value(
                snapshot.request,
                snapshot.takes[-1].result,
                snapshot.heard,
                run,
                snapshot.command,
                snapshot.comparison,
                snapshot.progress["job"],
            )
            value["share"] = self.shares.keep(run, value) if self.shares else ""
            updates[self.player] = value
        elif snapshot.growing:
            updates[self.player] = snapshot.growing
        return updates


def progress_panel(waiting: Waiting) -> gr.HTML:
    """Build the panel that tells what a run is doing, inside the current Blocks context."""

    def look(asked: Any) -> dict[str, str]:  # Gradio marks it, and a method cannot be marked
        return waiting.look(asked)

    return widget(
        "chunk_map",
        idle(),
        scripts=("library",),
        label="Progress",
        elem_id="chunk-map",
        server_functions=[look],
    )


def player(mixes: Mixes, first: dict[str, Any] = NOTHING) -> gr.HTML:
    """Build the player, on show ``first``, inside the current Blocks context."""

    def mix(asked: Any) -> dict[str, str]:  # Gradio marks it, and a method cannot be marked
        return mixes.mix(asked)

    return widget(
        "player",
        first,
        scripts=SCRIPTS,
        label="Player",
        elem_id="player",
        container=True,
        padding=True,
        server_functions=[mix],
    )
