"""Make the page's own components from the three files of ``widgets/``: frame, looks, behaviour.

Values reach a widget only as data for its JavaScript, which sets them as text. They never go into
``html_template`` or ``css_template``: Gradio evaluates those as JavaScript template strings, so a
file name with ``${`` in it would run as code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr


def widget(name: str, value: dict[str, Any], **options: Any) -> gr.HTML:
    """Build the widget ``name`` showing ``value``; ``options`` are gr.HTML's own."""
    frame, looks, behaviour = (
        (Path(__file__).parent / "widgets" / f"{name}.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    )
    return gr.HTML(
        value=value,
        html_template=frame,
        css_template=looks,
        js_on_load=behaviour,
        apply_default_css=False,
        **options,
    )
