"""Models from a Hub over real HTTP: fetched once, resumed, verified; a failure is a sentence."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hubserver import HubServer
from safetensors.torch import load, load_file, save

from lily.checkpoints.model_folder import is_of_encoder
from lily.checkpoints.resolve import bundled_folder

PULL = Path(__file__).with_name("pull.py")
NAME = "somebody/lily-tiny"
pytestmark = pytest.mark.slow  # each pull is a process that imports torch


@pytest.fixture
def pull(python) -> Callable[..., list[dict]]:
    """Resolve a model in a process of its own; what it told, the end last."""

    def run(*arguments: str, **environment: str) -> list[dict]:
        done: subprocess.CompletedProcess = python(PULL, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def kinds(told: list[dict]) -> list[str]:
    return [event["event"] for event in told]


def sentence(told: list[dict]) -> str:
    """The one sentence a failure ended in."""
    assert told[-1]["event"] == "Error", told
    assert "\n" not in told[-1]["text"]
    return told[-1]["text"]


def test_a_first_download_tells_its_size_and_gives_the_same_bytes(hub, files, pull):
    commit = hub.put(NAME, files | {"README.md": b"x", "pytorch_model.bin": b"not fetched"})
    told = pull(NAME)
    here = Path(told[-1]["folder"])
    assert here.name == commit
    size = len(files["model.safetensors"])
    steps = [e for e in told if e.get("file") == "model.safetensors"]
    assert (steps[0]["done"], steps[-1]["done"]) == (0, size)
    assert {e["total"] for e in steps} == {size}
    assert {p.name: p.read_bytes() for p in here.iterdir()} == files  # and nothing else


def test_the_second_time_nothing_is_downloaded(hub, files, pull):
    hub.put(NAME, files)
    first = pull(NAME)
    hub.requests.clear()
    second = pull(NAME)
    assert second[-1] == first[-1]
    assert "Downloading" not in kinds(second)
    assert not [path for method, path, _ in hub.requests if "/store/" in path and method == "GET"]


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub, pull):
    files = {p.name: p.read_bytes() for p in bundled_folder("lily-mini").iterdir()}
    hub.put(NAME, files)  # a larger one: the client writes to its disk every 10 MB
    hub.drop_after = 15_000_000
    told = pull(NAME)
    for name in ("config.json", "model.safetensors"):
        assert (Path(told[-1]["folder"]) / name).read_bytes() == files[name]
    ranges = [h["range"] for h in hub.asked("GET", "/store/") if "range" in h]
    assert ranges == [f"bytes={10 * 1024 * 1024}-"]


def test_a_wrong_checksum_is_refused_and_the_next_try_is_clean(hub, files, pull):
    hub.put(NAME, files)
    hub.spoil = True
    assert "SHA-256" in sentence(pull(NAME))
    hub.spoil = False
    assert kinds(pull(NAME))[-1] == "Here"


def test_a_file_spoiled_in_the_cache_is_found_without_the_hub(hub, files, pull):
    hub.put(NAME, files)
    path = Path(pull(NAME)[-1]["folder"]) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "SHA-256" in sentence(pull(NAME, HF_HUB_OFFLINE="1"))


def test_a_private_model_needs_its_token(hub, files, pull):
    hub.put(NAME, files, private=True)
    for token in ({}, {"HF_TOKEN": "hf_" + "wrong" * 6}):
        said = sentence(pull(NAME, **token))
        assert "401" in said and "HF_TOKEN" in said
    assert kinds(pull(NAME, HF_TOKEN=hub.token))[-1] == "Here"


def test_a_missing_model_revision_or_file_is_named(hub, files, pull):
    hub.put(NAME, {"pytorch_model.bin": b"a pickle"})
    token = {"HF_TOKEN": hub.token}
    assert "no model somebody/nothing" in sentence(pull("somebody/nothing", **token))
    assert "no revision 'v9'" in sentence(pull(f"{NAME}@v9"))
    said = sentence(pull(NAME))
    assert "no config.json" in said and "pytorch_model.bin" in said


def test_without_a_server_the_cache_serves_or_a_sentence_says_so(hub, files, pull):
    hub.put(NAME, files)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        told = pull(NAME, HF_ENDPOINT=dead)
        assert told[-1]["kind"] == "HubUnreachable" and dead[7:] in sentence(told)
        here = pull(NAME)[-1]
        told = pull(NAME, HF_ENDPOINT=dead)
    assert told[-1] == here and "from the cache" in told[0]["text"]


def test_a_hub_out_of_order_counts_as_no_server(hub, files, pull):
    hub.put(NAME, files)
    hub.failing = 503
    assert "503" in sentence(pull(NAME))


def test_offline_asks_nobody(hub, files, pull):
    hub.put(NAME, files)
    said = sentence(pull(NAME, HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE" in said and not hub.requests
    here = pull(NAME)[-1]
    hub.requests.clear()
    told = pull(NAME, HF_HUB_OFFLINE="1")
    assert told == [here] and not hub.requests


def test_a_pinned_commit_in_the_cache_needs_no_request(hub, files, pull):
    commit = hub.put(NAME, files)
    pull(f"{NAME}@{commit}")
    hub.put(NAME, {"README.md": b"newer"})
    hub.requests.clear()
    assert Path(pull(f"{NAME}@{commit}")[-1]["folder"]).name == commit
    assert not hub.requests


def preset(folder: Path, tmp_path: Path, extra: str = "") -> Path:
    """A YAML whose weights are the model on the Hub."""
    import yaml

    from lily.config.presets import load_config

    path = tmp_path / "mine.yaml"
    weights = {"repo": NAME, **yaml.safe_load(extra or "{}")}
    path.write_text(yaml.safe_dump({**load_config("tiny"), "name": "mine", "weights": weights}))
    return path


def test_a_preset_tells_when_its_unpinned_commit_changes(
    hub: HubServer, folder, files, pull, tmp_path
):
    first = hub.put(NAME, files)
    path = preset(folder, tmp_path)
    for _ in range(2):
        assert "Notice" not in kinds(pull("--preset", str(path)))
    second = hub.put(NAME, {"README.md": b"newer"})
    told = [e["text"] for e in pull("--preset", str(path)) if e["event"] == "Notice"]
    assert len(told) == 1 and first[:12] in told[0] and second[:12] in told[0]
    pinned = preset(folder, tmp_path, f"revision: {first}")
    told = pull("--preset", str(pinned))
    assert "Notice" not in kinds(told) and Path(told[-1]["folder"]).name == first


def checkpoint(folder: Path) -> bytes:
    """The folder's model as AudioSR would have it, no encoder, as safetensors."""
    tensors = load_file(folder / "model.safetensors")
    return save({k: v for k, v in tensors.items() if not is_of_encoder(k)})


def test_a_presets_checkpoint_is_converted_once_and_kept(hub, folder, pull, tmp_path):
    pytest.importorskip("lily.checkpoints.convert_audiosr")
    data = checkpoint(folder)
    hub.put(NAME, {"sub/audiosr.safetensors": data})
    path = preset(folder, tmp_path, "checkpoint: sub/audiosr.safetensors")
    told = pull("--preset", str(path))
    assert any("Converting" in e.get("text", "") for e in told)
    here = Path(told[-1]["folder"])
    assert load_file(here / "model.safetensors").keys() == load(data).keys()
    hub.put(NAME, {"README.md": b"another commit, the same checkpoint"})
    hub.requests.clear()
    again = pull("--preset", str(path))
    assert again[-1] == told[-1] and not hub.asked("GET", "/store/")
    offline = pull("--preset", str(path), HF_HUB_OFFLINE="1")
    assert offline[-1] == told[-1]


def test_a_checkpoint_that_is_no_audiosr_is_one_sentence_and_leaves_nothing(
    hub, folder, pull, tmp_path
):
    pytest.importorskip("lily.checkpoints.convert_audiosr")
    hub.put(NAME, {"lora.safetensors": save({"lora.up": torch.zeros(2)})})
    path = preset(folder, tmp_path, "checkpoint: lora.safetensors")
    assert "lora.up" in sentence(pull("--preset", str(path)))
    assert not list((tmp_path / "hf" / "assets").rglob("*.part*"))
