"""What is published is what is pulled; a Space is whole; a refusal is one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, RepoCard
from safetensors.torch import load_file

PULL = Path(__file__).with_name("pull.py")
NAME, SPACE = "somebody/lily-tiny", "somebody/lily-space"
pytestmark = pytest.mark.slow  # each command is a process that imports torch


@pytest.fixture
def publish(python, hub):
    """``lily publish`` with a token that may write."""

    def run(*arguments, **environment):
        return python("-m", "lily", "publish", *arguments, **{"HF_TOKEN": hub.token} | environment)

    return run


def test_publish_then_pull_gives_identical_tensors(folder, hub, publish, python, tmp_path):
    folder = Path(shutil.copytree(folder, tmp_path / "model"))
    (folder / "speech.on.ogg").write_bytes(b"what the card lets one hear")
    (folder / "notes.txt").write_text("mine")
    (folder / "album.png").mkdir()
    done = publish(folder, NAME, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == f"{hub.address}/{NAME}"
    here = Path(json.loads(python(PULL, NAME).stdout.splitlines()[-1])["folder"])
    sent, got = (load_file(f / "model.safetensors") for f in (folder, here))
    assert sent.keys() == got.keys()
    assert all(torch.equal(sent[key], got[key]) for key in sent)
    _, tree = hub.repos["model", NAME].commits[-1]
    assert set(tree) == {"config.json", "model.safetensors", "README.md", "speech.on.ogg"}
    assert tree["model.safetensors"].large and not tree["config.json"].large
    assert ModelCard(tree["README.md"].data.decode()).data.library_name == "lily"
    assert "names no licence" in done.stderr and "training data" in done.stderr


def test_private_stays_private(folder, hub, publish, python):
    assert publish(folder, NAME, "--private").returncode == 0
    assert hub.repos["model", NAME].private
    assert json.loads(python(PULL, NAME).stdout.splitlines()[-1])["event"] == "Error"


def test_nothing_private_is_uploaded_to_what_is_public_already(folder, hub, publish):
    assert publish(folder, NAME).returncode == 0
    before = len(hub.repos["model", NAME].commits)
    done = publish(folder, NAME, "--private")
    assert done.returncode == 2 and "is public" in done.stderr
    assert len(hub.repos["model", NAME].commits) == before


def test_a_space_is_whole_and_serves_the_model(folder, hub, publish):
    done = publish(folder, NAME, "--space", SPACE)
    assert done.returncode == 0, done.stderr
    space = hub.repos["space", SPACE]
    _, tree = space.commits[-1]
    assert {"app.py", "lily/inference/engine.py", "lily/ui/widgets/chunk_map.js"} <= set(tree)
    assert {
        "configs/lily-mini.yaml",
        "lily/assets/lily-mini/model.safetensors",
        "lily/inference/zerogpu.py",
    } <= set(tree)
    assert not any("__pycache__" in path for path in tree)
    requirements = tree["requirements.txt"].data.decode()
    assert "torch==" in requirements and "gradio" not in requirements
    card = RepoCard(tree["README.md"].data.decode())
    facts = card.data.to_dict()
    assert facts["sdk"] == "gradio" and facts["app_file"] == "app.py" and facts["sdk_version"]
    assert facts["models"] == [NAME]
    assert space.variables == {"LILY_MODEL": NAME}


def test_what_the_hub_refuses_is_one_sentence(folder, hub, publish, tmp_path):
    def refused(*arguments, **environment):
        done = publish(*arguments, **environment)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "write access" in refused(folder, NAME, HF_TOKEN="hf_" + "wrong" * 6)
    assert "owner/name" in refused(folder, "nameless")
    assert "does not answer" in refused(folder, NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE" in refused(folder, NAME, HF_HUB_OFFLINE="1")
    assert "no config.json" in refused(tmp_path, NAME)
    assert not hub.repos


def test_a_folder_that_would_not_load_is_not_published(folder, hub, publish, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    done = publish(tmp_path, NAME)
    assert done.returncode == 2 and "model.safetensors is damaged" in done.stderr
    assert not hub.repos
