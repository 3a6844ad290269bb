"""What stands below the page: the encoder, limits, licence, and where to read more.

The links leave the page only when they are followed. On a Hugging Face Space they lead to its
files; elsewhere the same files lie beside the code.
"""

from __future__ import annotations

from pathlib import Path

TEXT = (Path(__file__).parent / "widgets" / "about.md").read_text(encoding="utf-8")
PAPER = "https://arxiv.org/abs/2309.07314"
FILES = {  # by what they are called on the page
    "model card": "lily/assets/lily-mini/README.md",
    "licence": "LICENSE",
    "source": "app.py",
}


def about(space: str = "", model: str = "") -> str:
    """The section as Markdown; ``space`` and ``model`` are ids on the Hugging Face Hub, if any."""
    links = [f"[AudioSR, the paper]({PAPER})"]
    if space:
        root = f"https://huggingface.co/spaces/{space}/blob/main/"
        links += [f"[{label}]({root}{path})" for label, path in FILES.items()]
    else:
        links += [f"{label}: `{path}`" for label, path in FILES.items()]
    if "/" in model and not Path(model).exists():
        links.append(f"[model on the Hub](https://huggingface.co/{model})")
    return f"{TEXT}\n**Read more.** {' · '.join(links)}\n"
