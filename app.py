"""Start the page: settings in, page out, launch. Nothing else is decided here."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

# Read by Gradio when it is imported: the page sends nothing to anyone.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from lily.errors import LilyError
from lily.resolve import BUNDLED, encoder_note
from lily.ui.examples import FOLDER
from lily.ui.models import made_ready, offered
from lily.ui.page import build_page
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.theme import CSS, theme
from lily.zero import engine_maker


def main() -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO)
    settings = Settings.from_environment(os.environ)
    models, notice = offered(settings.model)
    shelf = EngineShelf(models, engine_maker(), ready=made_ready, note=encoder_note, spare=BUNDLED)
    build_page(shelf, settings, notice).launch(
        server_name=settings.server_name,
        server_port=settings.port,
        max_file_size=settings.max_mb * 1_000_000,
        theme=theme(),
        css=CSS,
        footer_links=["api"],
        allowed_paths=[str(FOLDER)],  # the examples, which may lie in an installed package
        mcp_server=find_spec("mcp") is not None,  # /upsample and /compare as tools
        run_history=False,  # recordings are the visitor's own
    )


if __name__ == "__main__":
    try:
        main()
    except LilyError as error:
        raise SystemExit(f"lily: {error}") from error
