"""A card says what a folder's files say, and no more."""

from __future__ import annotations

import json

import pytest
import torch
from huggingface_hub import ModelCard

from lily.checkpoints.folder_config import read_folder_config
from lily.checkpoints.model_folder import save_adapter_folder, save_model_folder
from lily.checkpoints.resolve import bundled_folder
from lily.config.presets import load_config
from lily.errors import PublishError
from lily.model.latent_diffusion import LatentDiffusion
from lily.publish.model_card import UNSTATED, evaluation_results, model_card, read_evaluation

NAME = "somebody/lily-tiny"


@pytest.fixture
def folder(tmp_path):
    """A model folder without a README."""
    config = load_config("tiny")
    save_model_folder(LatentDiffusion(**config["model"]["params"]), config, tmp_path / "model")
    return tmp_path / "model"


def card_of(folder, name=NAME) -> ModelCard:
    """The card as the Hub will read it."""
    return ModelCard(str(model_card(folder, name, read_folder_config(folder))))


def test_a_folder_without_a_readme_gets_a_card_that_admits_what_it_does_not_know(folder):
    card = card_of(folder)
    facts = card.data.to_dict()
    assert facts["license"] == "unknown" and facts["pipeline_tag"] == "audio-to-audio"
    assert facts["library_name"] == "lily" and "audio-super-resolution" in facts["tags"]
    assert "model-index" not in facts and "base_model" not in facts
    assert UNSTATED in card.text and "## Limits" in card.text
    assert f"--weights {NAME}" in card.text and f"LILY_MODEL={NAME}" in card.text


def test_the_folders_own_readme_is_the_body_and_its_front_matter_wins(folder):
    body = "# Mine\n\nWords of mine.\n\n## Data\n\nTapes, CC0.\n\n## Limits and misuse\n\nMany.\n"
    readme = f"---\nlicense: cc-by-4.0\ntags: [tape]\ndatasets: [me/tapes]\n---\n\n{body}"
    (folder / "README.md").write_text(readme)
    card = card_of(folder)
    assert body.strip() in card.text
    assert card.data.license == "cc-by-4.0" and card.data.datasets == ["me/tapes"]
    assert {"tape", "bandwidth-extension"} <= set(card.data.tags)
    assert UNSTATED not in card.text and card.text.count("## Limits") == 1
    assert "## How to use" in card.text


def test_front_matter_that_is_no_yaml_is_one_sentence(folder):
    (folder / "README.md").write_text("---\nlicense: [\n---\n\n# Mine\n")
    with pytest.raises(PublishError, match="README.md has no readable front matter"):
        card_of(folder)


def test_figures_become_results(folder):
    rows = [
        {"case": "lowpass_4000hz", "system": system, "lsd_hf": value}
        for system, value in (("input", 4.5), ("off", 1.9041), ("on", 1.905))
    ]
    rows.append({"case": "lowpass_8000hz", "system": "on", "lsd_hf": 1.5})
    (folder / "evaluation.json").write_text(json.dumps({"table": rows, "recordings": [1]}))
    results = card_of(folder).data.eval_results
    assert [(r.dataset_config, r.metric_value) for r in results] == [
        ("lowpass_4000hz", 1.904),
        ("lowpass_4000hz", 1.905),
        ("lowpass_8000hz", 1.5),
    ]
    assert results[0].metric_name == "LSD above the cutoff, lowpass 4000hz, encoder off"
    assert "| LSD above the cutoff, lowpass 8000hz, encoder on | 1.5 |" in card_of(folder).text


@pytest.mark.parametrize("strange", [None, [], 3, {}, {"table": 3}, {"table": [1, {"on": 2}]}])
def test_an_unknown_layout_gives_no_results(strange):
    assert evaluation_results(strange) == []


def test_the_bundled_models_card_carries_its_figures_and_its_data():
    card = card_of(bundled_folder("lily-mini"), "somebody/lily-mini")
    assert card.data.eval_results and "Debian packages" in card.text
    assert card.data.to_dict()["model-index"][0]["name"] == "lily-mini"


def test_a_space_is_where_a_stranger_finds_the_code(folder):
    card = model_card(folder, NAME, read_folder_config(folder), "somebody/lily-space")
    assert "huggingface.co/spaces/somebody/lily-space" in card.text
    assert "huggingface.co/spaces" not in card_of(folder).text


def test_an_adapter_names_its_base_on_the_hub(tmp_path):
    config = load_config("tiny")
    model = LatentDiffusion(**config["model"]["params"])
    for base, said in (("audiosr-basic", "drbaph/AudioSR"), ("me/base@v1", "me/base")):
        save_adapter_folder(model, config, tmp_path / "a", base, torch.float32)
        card = card_of(tmp_path / "a")
        assert card.data.base_model == said and "adapter" in card.text
        assert "Global Audio Encoder" in card.text and "| vocoder |" not in card.text
    save_adapter_folder(model, config, tmp_path / "a", str(tmp_path))
    with pytest.raises(PublishError, match="others do not have"):
        card_of(tmp_path / "a")


def test_the_bundled_cards_figures_are_those_of_its_evaluation():
    folder = bundled_folder("lily-mini")
    card = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    results = card.data.eval_results
    assert results == evaluation_results(read_evaluation(folder)) and len(results) == 16
    for result in results:  # the tables of the text have them with two digits
        assert f" {result.metric_value:.2f} |" in card.text


@pytest.mark.parametrize(
    ("stated", "kept"), [("tags: music", ["music"]), ("tags: [a, a, 7]", ["a", "7"]), ("", [])]
)
def test_tags_of_the_front_matter_are_kept_whole(folder, stated, kept):
    (folder / "README.md").write_text(f"---\nlicense: mit\n{stated}\n---\n# Mine\n")
    tags = model_card(folder, "a/b", read_folder_config(folder)).data.tags
    assert tags[-len(kept) or len(tags) :] == kept and "latent-diffusion" in tags
