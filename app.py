"""Start the page: read the settings, build the page, launch it. Nothing else is decided here."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing them takes seconds
    import gradio

    from lily.ui.cache import Cache
    from lily.ui.shelf import EngineShelf

# Gradio reads these when it is imported. The page reports nothing to anyone, and its files lie in a
# folder of their own, which lily.ui.cache keeps within its limits.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(tempfile.gettempdir()) / "lily-page"))
# torch reads this when it is imported: what an Apple GPU lacks runs on the CPU, with a warning.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

# For the run under way; containers kill a server 10 s after SIGTERM, and Gradio takes 5 s at most.
STOP_SECONDS = 4.0
SESSIONS = 64  # Gradio keeps 0.1 MB of settings for each visitor; a copy that is dropped is rebuilt

log = logging.getLogger("lily")


def main() -> None:
    """Serve the page until it is stopped, by Ctrl+C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    log.setLevel(logging.INFO)
    log.info("Loading; this takes some seconds.")  # torch and Gradio are imported below

    from starlette.middleware import Middleware

    from lily.checkpoints.resolve import BUNDLED, encoder_note
    from lily.inference.zerogpu import engine_maker
    from lily.ui.examples import FOLDER
    from lily.ui.guard import Guard
    from lily.ui.models import made_ready, offered
    from lily.ui.page import build_page, cache_of
    from lily.ui.settings import Settings
    from lily.ui.shelf import EngineShelf
    from lily.ui.theme import CSS, theme

    settings = Settings.from_environment(os.environ)
    models, notice = offered(settings.model)
    shelf = EngineShelf(models, engine_maker(), ready=made_ready, note=encoder_note, spare=BUNDLED)
    cache, most_bytes = cache_of(settings), settings.max_mb * 1_000_000
    page = None
    try:
        cache.watch()
        page = build_page(shelf, settings, cache, notice)
        _, address, _ = page.launch(
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
            quiet=True,  # or Gradio advises a public link
            prevent_thread_lock=True,
        )
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):  # any number of them: nothing is interrupted
            signal.signal(number, lambda received, _frame: stopped.append(received))
        log.info("The page is ready at %s (Ctrl+C stops it).", address)
        while not stopped:
            time.sleep(0.2)
    finally:
        _end(shelf, page, cache)


def _end(shelf: EngineShelf, page: gradio.Blocks | None, cache: Cache) -> None:
    """End the run under way and the server, then remove all temporary files."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one would interrupt this
        signal.signal(number, signal.SIG_IGN)
    try:
        ended = shelf.close(STOP_SECONDS)
        if page is not None:
            page.close(verbose=False)
    finally:
        cache.close()
    if not ended:  # its thread would write again, and torch would abort the process
        os._exit(0)


if __name__ == "__main__":
    from lily.errors import LilyError

    try:
        main()
    except (LilyError, OSError) as error:  # a port in use, a folder that cannot be written
        raise SystemExit(f"lily: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
