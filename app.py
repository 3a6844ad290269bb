"""Start the page: settings in, page out, launch. Nothing else is decided here."""

from __future__ import annotations

import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

# Read by Gradio when it is imported: the page sends nothing to anyone, and its files lie in a
# folder of their own, which is tidied.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(tempfile.gettempdir()) / "lily-page"))

from starlette.middleware import Middleware

from lily.checkpoints.resolve import BUNDLED, encoder_note
from lily.errors import LilyError
from lily.inference.zerogpu import engine_maker
from lily.ui.examples import FOLDER
from lily.ui.guard import Guard
from lily.ui.models import made_ready, offered
from lily.ui.page import build_page, cache_of
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.theme import CSS, theme

SESSIONS = 64  # Gradio copies the page's settings, 0.1 MB, for each; a copy lost is made again


def main() -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO)
    settings = Settings.from_environment(os.environ)
    models, notice = offered(settings.model)
    shelf = EngineShelf(models, engine_maker(), ready=made_ready, note=encoder_note, spare=BUNDLED)
    cache, most_bytes = cache_of(settings), settings.max_mb * 1_000_000
    cache.watch()
    build_page(shelf, settings, cache, notice).launch(
        server_name=settings.server_name,
        server_port=settings.port,
        max_file_size=most_bytes,
        state_session_capacity=SESSIONS,
        app_kwargs={"middleware": [Middleware(Guard, cache=cache, most_bytes=most_bytes)]},
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
