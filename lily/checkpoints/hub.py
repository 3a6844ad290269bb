"""Bring files of a model on the Hub to this machine: safetensors and JSON, every byte checked.

``huggingface_hub`` downloads, resumes and caches; this module decides what is fetched, compares
SHA-256 with what the Hub reports, and turns every failure into one sentence. ``HF_ENDPOINT``,
``HF_HUB_OFFLINE``, ``HF_TOKEN`` and ``HF_HOME`` are huggingface_hub's own and read at its import.
"""

from __future__ import annotations

import hashlib
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

from lily.checkpoints.events import Downloading, Notice, Preparing, Tell, silent
from lily.config.model_id import HubId
from lily.errors import HubUnreachable, WeightsError

ANSWER_SECONDS = 15.0  # how long the Hub may take to describe a model
ALLOWED = {".safetensors", ".json"}  # formats that cannot hold code
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """What the Hub says of a model: its commit, its files, and the SHA-256 of the large ones."""

    model: HubId
    commit: str
    files: frozenset[str]
    sha256: dict[str, str]

    def require(self, file: str) -> None:
        """Raise WeightsError unless the model has ``file``."""
        if file in self.files:
            return
        other = sorted(f for f in self.files if f.endswith((".bin", ".ckpt", ".safetensors")))
        hint = f"; it holds {', '.join(other[:3])}" if other else ""
        raise WeightsError(f"{self.model} on {host()} has no {file}{hint}; give a Lily model.")


def host() -> str:
    """The Hub's address without its scheme, for messages."""
    return constants.ENDPOINT.split("://")[-1]


def listing(model: HubId) -> Listing:
    """Ask the Hub about a model; raises WeightsError, and HubUnreachable if nobody answers."""
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


def fetch(model: HubId, files: Sequence[str], tell: Tell = silent) -> tuple[Path, str]:
    """Bring files of a model here; the folder that holds them and the commit they are of.

    When the Hub does not answer, what is in the cache is taken, and told. Raises WeightsError.
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
        tell_cached(str(model), tell)
        return here
    for file in files:
        found.require(file)
    (folder,) = {_download(found, file, tell) for file in files}
    return folder, found.commit


def tell_cached(name: str, tell: Tell) -> None:
    """Say that a model comes from the cache, unless that was asked for."""
    if not constants.is_offline_mode():
        tell(Notice(f"{host()} does not answer: {name} is taken from the cache."))


def cached(model: HubId, files: Sequence[str]) -> tuple[Path, str] | None:
    """The same from the cache alone; None if a file is missing there."""
    folders = set()
    for file in files:
        try:
            path = _download_file(model, file, local=True)
        except LocalEntryNotFoundError:
            return None
        reported = path.resolve().name  # huggingface_hub names large files by their SHA-256
        if _SHA256.fullmatch(reported):
            _verify(path, reported, model, silent)
        folders.add(_root(path, file))
    (folder,) = folders
    return folder, folder.name


def record_commit(preset: str, model: HubId, commit: str, tell: Tell) -> None:
    """Remember the commit that an unpinned preset first resolved to; tell if it is another now."""
    if model.pinned:
        return
    note = assets(model) / f"{preset}.commit"
    if not note.exists():
        note.write_text(commit + "\n", encoding="utf-8")
    first = note.read_text(encoding="utf-8").strip()
    if first != commit:
        tell(
            Notice(
                f"{model} has changed: {preset} first loaded commit {first[:12]}, now it is "
                f"{commit[:12]}. Pin `revision` in a YAML of your own to keep one, or delete "
                f"{note} to accept the new one."
            )
        )


def assets(model: HubId) -> Path:
    """A folder of huggingface_hub's cache for what Lily makes of a model; it exists."""
    return cached_assets_path("lily", namespace="models", subfolder=model.repo.replace("/", "--"))


def _download(found: Listing, file: str, tell: Tell) -> Path:
    try:
        path = _download_file(found.model, file, tell=tell)
    except Exception as error:
        raise (_explained(error, found.model) or error) from error.__cause__
    root = _root(path, file)
    if root.name != found.commit:
        raise WeightsError(f"{found.model} changed while it was being fetched; try again.")
    if file in found.sha256:
        _verify(path, found.sha256[file], found.model, tell)
    return root


def _download_file(model: HubId, file: str, *, local: bool = False, tell: Tell = silent) -> Path:
    """By the revision's name, not its commit: only then is the name found again without the Hub."""
    return Path(
        hf_hub_download(
            model.repo,
            file,
            revision=model.revision,
            local_files_only=local,
            tqdm_class=_bar(file, tell),
        )
    )


def _root(path: Path, file: str) -> Path:
    """The snapshot's folder, named by its commit, of a file in it."""
    return path.parents[len(PurePosixPath(file).parts) - 1]


def _bar(file: str, tell: Tell) -> type[tqdm]:
    """A progress bar that draws nothing and tells; what ``tell`` raises ends the download."""

    class Told(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            total, initial = options.get("total"), options.get("initial")
            super().__init__(*args, **{**options, "disable": True})
            self._total = total if isinstance(total, int) else None
            self._done = initial if isinstance(initial, int) else 0
            tell(Downloading(file, self._done, self._total))

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            tell(Downloading(file, self._done, self._total))
            return None

    return Told


def _verify(path: Path, expected: str, model: HubId, tell: Tell) -> None:
    """Compare a file's SHA-256 with the Hub's; a file that differs is removed from the cache."""
    tell(Preparing(f"Checking {path.name}"))
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
    """The sentence for whatever huggingface_hub raised; None if it is no failure of its kind."""
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
