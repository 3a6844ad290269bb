"""Upload a model folder to the Hub, with its card and optionally a Space that serves it.

The folder is checked as loading checks it: one that would not load is not published.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, RepoCard
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from lily.checkpoints.events import Notice, Notify, ignore
from lily.checkpoints.files import require_weights
from lily.checkpoints.folder_config import CONFIG, WEIGHTS, read_folder_config
from lily.checkpoints.hub import host
from lily.checkpoints.resolve import with_weights
from lily.config.model_id import HubId, hub_id
from lily.errors import PublishError
from lily.publish.model_card import (
    EVALUATION,
    UNSTATED,
    evaluation_results,
    model_card,
    read_evaluation,
)

T = TypeVar("T")
SHOWN = (".ogg", ".png")  # audio and pictures that a card links to
ROOT = Path(__file__).resolve().parents[2]
THUMBNAIL = "docs/images/page.png"
SPACE = ("app.py", "lily", "configs", "requirements.txt", "README.md", "LICENSE", THUMBNAIL)
# sdk_version installs gradio, and tests are not run there.
LEFT_OUT = ("gradio", "pytest")


@dataclass(frozen=True)
class Published:
    """The addresses of what was uploaded."""

    model: str
    space: str = ""


def publish(
    folder: Path,
    name: str,
    *,
    private: bool = False,
    space: str | None = None,
    notify: Notify = ignore,
) -> Published:
    """Upload a model folder as ``name``, ``owner/name``, and a Space for it; returns addresses.

    Raises WeightsError for a folder that would not load, PublishError for what the Hub refuses.
    """
    for wanted in (name, space):
        if wanted is not None and hub_id(wanted) != HubId(wanted):
            raise PublishError(f"{wanted} is no name on the Hub; give owner/name.")
    files = space_files(name, space) if space else {}  # before anything is uploaded
    config = read_folder_config(folder)
    here = with_weights(config, notify)
    require_weights(here)
    from lily.checkpoints.model_folder import check_weights  # torch

    check_weights(here)
    card = model_card(folder, name, config, space)
    _notify_gaps(folder, str(card), notify)
    adds = {
        CONFIG: folder / CONFIG,
        WEIGHTS: folder / WEIGHTS,
        "README.md": str(card).encode(),
        **({EVALUATION: folder / EVALUATION} if (folder / EVALUATION).is_file() else {}),
        **{p.name: p for p in sorted(folder.iterdir()) if p.suffix in SHOWN and p.is_file()},
    }
    model_url = _upload(name, "model", adds, private)
    if not space:
        return Published(model_url)
    space_url = _upload(space, "space", files, private)
    _asked(space, lambda: HfApi().add_space_variable(space, "LILY_MODEL", name))
    if private:
        notify(
            Notice(f"{name} is private: give the Space {space} a secret HF_TOKEN that reads it.")
        )
    return Published(model_url, space_url)


def space_files(name: str, space: str) -> dict[str, Path | bytes]:
    """The files of ``space`` for the model ``name``: path there to a file here, or content.

    Only files that git tracks are uploaded: other files in the clone may be private. Raises
    PublishError where Lily is not in a clone, or a tracked file is missing.
    """
    files: dict[str, Path | bytes] = {path: ROOT / path for path in _tracked(SPACE)}
    untracked = [p for p in SPACE if not any(f == p or f.startswith(f"{p}/") for f in files)]
    lost = [path for path in files if not (ROOT / path).exists()]
    for part in (*untracked, *lost):
        raise PublishError(
            f"A Space is made of the files that git tracks in a clone of Lily, and {ROOT} has no "
            f"{part} among them; run this in a clone, or restore it."
        )
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(LEFT_OUT)]
    files["requirements.txt"] = ("\n".join(kept) + "\n").encode()
    card = RepoCard((ROOT / "README.md").read_text(encoding="utf-8"))
    card.data["models"] = [name]
    card.data["thumbnail"] = f"https://huggingface.co/spaces/{space}/resolve/main/{THUMBNAIL}"
    card.text = (
        f"\n# Lily\n\nServes [{name}](https://huggingface.co/{name}): any audio in, 48 kHz out. "
        "What lies above the recording's cutoff is generated, not recovered.\n"
    )
    files["README.md"] = str(card).encode()
    return files


def _tracked(parts: Sequence[str]) -> list[str]:
    """Paths below ROOT that git tracks, of files or folders."""
    command = ["git", "ls-files", "-z", "--", *parts]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise PublishError(
            f"A Space is made of the files that git tracks in a clone of Lily, and {ROOT} is no "
            "git clone; run this in one."
        ) from error
    paths = os.fsdecode(listed).split("\0")
    return [path for path in paths if path]


def _notify_gaps(folder: Path, card: str, notify: Notify) -> None:
    """Report what is missing in the card while it can still be added."""
    if "license: unknown" in card:
        notify(Notice(f"{folder}/README.md names no licence; the card says unknown."))
    if UNSTATED in card:
        notify(Notice(f"{folder}/README.md has no section on training data; the card says so."))
    evaluation = read_evaluation(folder)
    if evaluation is not None and not evaluation_results(evaluation):
        notify(
            Notice(
                f"{folder}/{EVALUATION} has a layout that is not known; the card has no figures."
            )
        )


def _upload(name: str, kind: str, files: dict[str, Path | bytes], private: bool) -> str:
    """Make the repository if need be and commit the files; the commit is all or nothing."""
    api = HfApi()
    sdk = "gradio" if kind == "space" else None
    url = _asked(
        name,
        lambda: api.create_repo(
            name, repo_type=kind, private=private or None, exist_ok=True, space_sdk=sdk
        ),
    )
    if private and not _asked(name, lambda: api.repo_info(name, repo_type=kind)).private:
        raise PublishError(
            f"{name} exists already and is public; make it private on {host()}, or give another "
            "name. Nothing was uploaded to it."
        )
    operations = [CommitOperationAdd(path, source) for path, source in files.items()]
    _asked(
        name,
        lambda: api.create_commit(
            name, operations, commit_message="Publish with Lily", repo_type=kind
        ),
    )
    return str(url)


def _asked(name: str, request: Callable[[], T]) -> T:
    """Make a request of the Hub; raises PublishError saying what to do where it is refused."""
    try:
        return request()
    except OfflineModeIsEnabled as error:
        raise PublishError("HF_HUB_OFFLINE is set; unset it to publish.") from error
    except (HfHubHTTPError, httpx.HTTPError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            if status in (401, 403):
                raise PublishError(
                    f"{host()} does not let this token write {name} ({status}): log in with "
                    "`hf auth login` or set HF_TOKEN to one with write access."
                ) from error
            detail = str(cause.server_message or cause).split("\n")[0]
            raise PublishError(f"{host()} refused {name} ({status}): {detail}") from error
        if isinstance(cause, httpx.HTTPError):
            raise PublishError(
                f"{host()} does not answer, so {name} was not published; check the connection or "
                "HF_ENDPOINT."
            ) from error
        raise
