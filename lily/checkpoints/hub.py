"""Download a model's files from the Hub: safetensors and JSON only, verified by SHA-256.

``huggingface_hub`` downloads, resumes and caches; this module chooses the files, compares their
SHA-256 with the Hub's, and turns every failure into one sentence. huggingface_hub reads
``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and ``HF_HOME`` when it is imported.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, cached_assets_path, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from tqdm import tqdm

from lily.checkpoints.events import Downloading, Notice, Notify, Preparing, ignore
from lily.config.model_id import HubId
from lily.errors import HubUnreachable, WeightsError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0  # timeout of a request for a model's description
ALLOWED = {".safetensors", ".json"}  # formats that cannot hold code
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """The Hub's description of a model: commit, files, and SHA-256 of the large ones."""

    model: HubId
    commit: str
    files: frozenset[str]
    sha256: dict[str, str]

    def require(self, file: str) -> None:
        """Raise WeightsError if the model lacks ``file``."""
        if file in self.files:
            return
        other = sorted(f for f in self.files if f.endswith((".bin", ".ckpt", ".safetensors")))
        hint = f"; it holds {', '.join(other[:3])}" if other else ""
        raise WeightsError(f"{self.model} on {host()} has no {file}{hint}; give a Lily model.")


def host() -> str:
    """The Hub's address without the scheme, for messages."""
    return constants.ENDPOINT.split("://")[-1]


def listing(model: HubId) -> Listing:
    """Request a model's description; raises WeightsError, and HubUnreachable without an answer."""
    try:
        info = HfApi().model_info(
            model.repo, revision=model.revision, files_metadata=True, timeout=ANSWER_SECONDS
        )
    except Exception as error:
        raise (_explained(error, model) or error) from error.__cause__
    siblings = info.siblings or []
    return Listing(
        model=model,
        commit=info.sha or "",
        files=frozenset(s.rfilename for s in siblings),
        sha256={s.rfilename: s.lfs.sha256 for s in siblings if s.lfs is not None},
    )


def fetch(model: HubId, files: Sequence[str], notify: Notify = ignore) -> tuple[Path, str]:
    """Download files of a model; returns their folder and commit.

    If the Hub does not answer, the cached files are used, with a notice. Raises WeightsError.
    """
    for file in files:
        if PurePosixPath(file).suffix not in ALLOWED:
            raise WeightsError(f"{file} of {model} is not fetched: only safetensors and JSON are.")
    if model.pinned and (here := cached(model, files)):
        return here
    try:
        found = listing(model)
    except HubUnreachable:
        here = cached(model, files)
        if here is None:
            raise
        notify_cached(str(model), notify)
        return here
    for file in files:
        found.require(file)
    (folder,) = {_download(found, file, notify) for file in files}
    return folder, found.commit


def notify_cached(name: str, notify: Notify) -> None:
    """Send a notice that a model comes from the cache, unless offline mode is set."""
    if not constants.is_offline_mode():
        notify(Notice(f"{host()} does not answer: {name} is taken from the cache."))


def cached(model: HubId, files: Sequence[str]) -> tuple[Path, str] | None:
    """Folder and commit of files in the cache; None if one is missing."""
    folders = set()
    for file in files:
        try:
            path = _download_file(model, file, local=True)
        except LocalEntryNotFoundError:
            return None
        reported = path.resolve().name  # huggingface_hub names large files by their SHA-256
        if _SHA256.fullmatch(reported):
            _verify(path, reported, model, ignore)
        folders.add(_root(path, file))
    (folder,) = folders
    return folder, folder.name


def record_commit(preset: str, model: HubId, commit: str, notify: Notify) -> None:
    """Record the commit that an unpinned preset first resolved to; send a notice if it changed."""
    if model.pinned:
        return
    try:
        note = assets(model) / f"{preset}.commit"
        first = note.read_text(encoding="utf-8").strip() if note.exists() else ""
        if not first:
            note.write_text(commit + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:  # a cache that may only be read, for example
        log.warning("The commit of %s is not recorded: %s", model, error)
        return
    if first and first != commit:
        notify(
            Notice(
                f"{model} has changed: {preset} first loaded commit {first[:12]}, now it is "
                f"{commit[:12]}. Pin `revision` in a YAML of your own to keep one, or delete "
                f"{note} to accept the new one."
            )
        )


def assets(model: HubId) -> Path:
    """An existing folder in huggingface_hub's cache for files that Lily derives from a model."""
    return cached_assets_path("lily", namespace="models", subfolder=model.repo.replace("/", "--"))


def _download(found: Listing, file: str, notify: Notify) -> Path:
    try:
        path = _download_file(found.model, file, notify=notify)
    except Exception as error:
        raise (_explained(error, found.model) or error) from error.__cause__
    root = _root(path, file)
    if root.name != found.commit:
        raise WeightsError(f"{found.model} changed while it was being fetched; try again.")
    if file in found.sha256:
        _verify(path, found.sha256[file], found.model, notify)
    return root


def _download_file(
    model: HubId, file: str, *, local: bool = False, notify: Notify = ignore
) -> Path:
    """Download by the revision's name, not its commit, so that the cache finds it offline."""
    return Path(
        hf_hub_download(
            model.repo,
            file,
            revision=model.revision,
            local_files_only=local,
            tqdm_class=_bar(file, notify),
        )
    )


def _root(path: Path, file: str) -> Path:
    """The folder of a file's snapshot, named by its commit."""
    return path.parents[len(PurePosixPath(file).parts) - 1]


def _bar(file: str, notify: Notify) -> type[tqdm]:
    """A progress bar that sends events; an exception of ``notify`` ends the download."""

    class Reporting(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            total, initial = options.get("total"), options.get("initial")
            super().__init__(*args, **{**options, "disable": True})
            self._total = total if isinstance(total, int) else None
            self._done = initial if isinstance(initial, int) else 0
            notify(Downloading(file, self._done, self._total))

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            notify(Downloading(file, self._done, self._total))
            return None

    return Reporting


def _verify(path: Path, expected: str, model: HubId, notify: Notify) -> None:
    """Compare a file's SHA-256 with the Hub's; remove it from the cache if they differ."""
    notify(Preparing(f"Checking {path.name}"))
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{path.name} of {model} has SHA-256 {found[:12]}…, the Hub reports {expected[:12]}…: "
            "it was removed from the cache; try again, and if it differs again do not use it."
        )


def _explained(error: Exception, model: HubId) -> WeightsError | None:
    """A sentence for an error of huggingface_hub; None for any other error."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    match error:
        case OfflineModeIsEnabled():
            return HubUnreachable(
                f"HF_HUB_OFFLINE is set and {model} is not in the cache; unset it to download it."
            )
        case GatedRepoError():
            return WeightsError(
                f"{model} is gated: accept its conditions on {host()}, then set HF_TOKEN."
            )
        case RevisionNotFoundError():
            return WeightsError(f"{model.repo} on {host()} has no revision {model.revision!r}.")
        case HfHubHTTPError() if status in (401, 403):
            return WeightsError(
                f"{host()} does not give {model} to this token ({status}): check the name, and set "
                "HF_TOKEN to one that may read it if it is private."
            )
        case RepositoryNotFoundError():
            return WeightsError(f"There is no model {model} on {host()}; check the name.")
        case HFValidationError():
            return WeightsError(f"{model} cannot be a model's name on {host()}: {error}")
        case HfHubHTTPError() if status is not None and (status >= 500 or status == 429):
            return _unreachable(model, f"status {status}")
        case HfHubHTTPError():
            return WeightsError(f"{host()} answers {status} about {model}; check the name.")
        case LocalEntryNotFoundError() | httpx.HTTPError():
            return _unreachable(model, str(error.__cause__ or error).split("\n")[0])
        case OSError():  # a full disk, or a file that ended early
            return WeightsError(f"{model} cannot be downloaded: {str(error).splitlines()[0]}")
    return None


def _unreachable(model: HubId, why: str) -> HubUnreachable:
    return HubUnreachable(
        f"{host()} does not answer ({why}) and {model} is not in the cache; check the connection "
        "or HF_ENDPOINT."
    )
