"""What stands below the page leads to files that exist."""

from __future__ import annotations

from pathlib import Path

from lily.ui.about import FILES, about

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_named_is_there():
    assert all((ROOT / path).is_file() for path in FILES.values())


def test_links_lead_to_the_space_where_there_is_one_and_to_the_model_where_it_is_on_the_hub():
    assert "huggingface.co" not in about()
    text = about("me/lily", "me/model")
    assert "(https://huggingface.co/spaces/me/lily/blob/main/LICENSE)" in text
    assert "(https://huggingface.co/me/model)" in text
    assert "huggingface.co/lily-mini" not in about("me/lily", "lily-mini")
