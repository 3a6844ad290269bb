"""Write a model card: front matter for the Hub, and the sections that every card needs.

The folder's own README.md is the body; missing sections are added. Figures come from the folder's
``evaluation.json``; the card claims nothing that is not in a file of the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lily.config.model_id import hub_id
from lily.config.presets import Config, load_config, preset_names
from lily.errors import PublishError

TAGS = ["audio-super-resolution", "bandwidth-extension", "latent-diffusion"]
EVALUATION = "evaluation.json"
UNSTATED = (
    "The publisher of this model has not stated what it was trained on, nor under which licences."
)
HELD_OUT = "held-out recordings"
LIMITS = """\
## Limits

- The generated band was never recorded. It is plausible, differs with every seed, and is no
  evidence of what was said or played.
- It restores bandwidth only: noise, clipping, reverberation and codec artefacts stay.
- Below its cutoff the recording is kept unchanged.
"""


def model_card(folder: Path, name: str, config: Config, space: str | None = None) -> ModelCard:
    """The card of a model folder that is published as ``name``; raises PublishError.

    ``space`` is a Space that serves it and holds Lily's code.
    """
    kept = _own_card(folder)
    stated: dict[str, Any] = kept.data.to_dict() if kept else {}
    results = evaluation_results(read_evaluation(folder))
    facts = {
        "license": "unknown",
        "library_name": "lily",
        "pipeline_tag": "audio-to-audio",
        **{key: value for key, value in stated.items() if key not in ("tags", "model-index")},
        "tags": list(dict.fromkeys([*TAGS, *_tags(stated.get("tags"))])),
    }
    if "base_model" in config:
        base = base_on_hub(str(config["base_model"]))
        facts |= {"base_model": base, "base_model_relation": "adapter"}
    if results:
        facts |= {"eval_results": results, "model_name": name.split("/")[-1]}
    data = ModelCardData(**facts)
    body = kept.text.strip() if kept else _introduction(name, config, folder)
    sections = {
        r"\buse\b": _how_to_use(name, space),
        r"\bdata\b": f"## Training data\n\n{UNSTATED}\n",
        r"\b(figures|evaluation|results)\b": _figures(results) if results else "",
        r"\blimits?\b": LIMITS,
    }
    for word, section in sections.items():
        if not re.search(rf"^#+ .*{word}", body, re.MULTILINE | re.IGNORECASE):
            body = f"{body.rstrip()}\n\n{section}".rstrip()
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body.rstrip()}\n")


def _tags(stated: Any) -> list[str]:
    """The tags of a front matter, which may be one word, a list or missing."""
    return [str(tag) for tag in (stated if isinstance(stated, list) else [stated]) if tag]


def base_on_hub(base: str) -> str:
    """The Hub name of an adapter's base; raises PublishError if others could not load it."""
    model = hub_id(base)
    if base in preset_names():
        weights = load_config(base).get("weights", {})
        if "repo" in weights:
            return weights["repo"]
    if Path(base).exists() or model is None:
        raise PublishError(
            f"This adapter's base_model is {base}, which others do not have; publish that model "
            "and name it by owner/name in config.json."
        )
    return model.repo


def read_evaluation(folder: Path) -> Any:
    """The content of ``evaluation.json``, None without one; raises PublishError if damaged."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PublishError(f"{path} cannot be read: {error}") from error


def evaluation_results(evaluation: Any) -> list[EvalResult]:
    """Means over recordings as the Hub's evaluation results; empty for an unknown layout.

    Reads ``case`` and ``lsd_hf``, the LSD above the cutoff, from the rows of ``table`` for the
    systems ``off`` and ``on``.
    """
    rows = evaluation.get("table") if isinstance(evaluation, Mapping) else None
    results = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, Mapping) or not isinstance(row.get("case"), str):
            continue
        if row.get("system") in ("off", "on") and _is_number(row.get("lsd_hf")):
            case = row["case"].replace("_", " ")
            results.append(
                EvalResult(
                    task_type="audio-to-audio",
                    task_name="Audio super-resolution",
                    dataset_type="held-out",
                    dataset_name=f"{HELD_OUT}, {case}",
                    dataset_config=row["case"],
                    metric_type="lsd_hf",
                    metric_name=f"LSD above the cutoff, {case}, encoder {row['system']}",
                    metric_value=round(float(row["lsd_hf"]), 3),
                )
            )
    return results


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _own_card(folder: Path) -> ModelCard | None:
    path = folder / "README.md"
    if not path.is_file():
        return None
    try:
        return ModelCard(path.read_text(encoding="utf-8"))
    except Exception as error:  # of any kind: only lily.config.presets knows yaml's
        raise PublishError(f"{path} has no readable front matter: {error}") from error


def _introduction(name: str, config: Config, folder: Path) -> str:
    from lily.checkpoints.model_folder import expected_tensors, is_of_encoder  # torch

    counts = {"U-Net": 0, "Global Audio Encoder and its conditioning": 0, "autoencoder": 0}
    counts["vocoder"] = 0
    for key, value in expected_tensors(config).items():
        part = "U-Net" if key.startswith("model.") else "autoencoder"
        part = "vocoder" if key.startswith("first_stage_model.vocoder.") else part
        counts["Global Audio Encoder and its conditioning" if is_of_encoder(key) else part] += (
            value.numel()
        )
    lead = "Any audio in, 48 kHz out: what lies above the recording's cutoff is generated."
    if "base_model" in config:
        counts = {part: count for part, count in counts.items() if "Global" in part}
        lead += (
            "\n\nThis is an adapter: only the encoder's tensors are here. Lily fetches the model "
            f"that provides the others, `{config['base_model']}`."
        )
    table = "\n".join(f"| {part} | {count:,} |" for part, count in counts.items() if count)
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    return (
        f"# {name.split('/')[-1]}\n\nAn audio super-resolution model for Lily: AudioSR's latent "
        f"diffusion with a Global Audio Encoder that reads the whole recording. {lead}\n\n"
        f"| part | parameters |\n|---|---|\n{table}\n\n"
        f"One safetensors file of {megabytes:,.1f} MB."
    )


def _figures(results: list[EvalResult]) -> str:
    rows = "\n".join(f"| {r.metric_name} | {r.metric_value:g} |" for r in results)
    return (
        f"## Figures\n\nMean log-spectral distance over {HELD_OUT} at the frequency named; lower "
        f"is nearer to the recording (`{EVALUATION}`).\n\n| | LSD |\n|---|---|\n{rows}\n"
    )


def _how_to_use(name: str, space: str | None) -> str:
    url = f"https://huggingface.co/spaces/{space}"
    code = f" (the Space [{space}]({url}) holds its code and runs it in the browser)"
    return f"""\
## How to use

In a clone of Lily{code if space else ""}, after `pip install -e .`:

```bash
python -m lily upsample recording.wav -o restored --weights {name}
LILY_MODEL={name} python app.py   # the page
```

```python
from lily import InferenceEngine
from lily.checkpoints.resolve import resolve_config

engine = InferenceEngine(resolve_config(weights="{name}"))
result = engine.run_inference("recording.wav", "restored", seed=7)
```
"""
