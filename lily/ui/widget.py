"""Make the page's own components from the files of ``widgets/``: frame, looks, behaviour.

Values reach a widget only as data for its JavaScript, which sets them as text. They never go into
``html_template`` or ``css_template``: Gradio evaluates those as JavaScript template strings, so a
file name with ``${`` in it would run as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

WIDGETS = Path(__file__).parent / "widgets"


def widget(
    name: str, value: dict[str, Any], scripts: Sequence[str] = (), **options: Any
) -> gr.HTML:
    """Build the widget ``name`` showing ``value``; ``options`` are gr.HTML's own.

    ``scripts`` name further JavaScript files, which come before the widget's own in one scope.
    """
    frame, looks = (_text(f"{name}.{kind}") for kind in ("html", "css"))
    return gr.HTML(
        value=value,
        html_template=frame,
        css_template=looks,
        js_on_load="\n".join(_text(f"{script}.js") for script in (*scripts, name)),
        apply_default_css=False,
        **options,
    )


def _text(name: str) -> str:
    return (WIDGETS / name).read_text(encoding="utf-8")
