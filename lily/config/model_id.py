"""Where weights come from: the ``weights`` section of a preset, and names of models on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lily.config.sections import section

_PART = r"[A-Za-z0-9][\w.-]*"
_HUB_ID = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A model on the Hub, ``owner/name`` or ``owner/name@revision``."""

    repo: str
    revision: str | None = None  # a commit, tag or branch; None: main

    @property
    def pinned(self) -> bool:
        """Whether it names one commit, so that it always means the same bytes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_id(text: str) -> HubId | None:
    """Read ``owner/name[@revision]``; None if the text is no such name."""
    match = _HUB_ID.fullmatch(text)
    return HubId(match["repo"], match["revision"]) if match else None


@section
class WeightsConfig:
    """The ``weights`` section: one of ``bundled``, ``folder`` and ``repo``."""

    bundled: str | None = None  # the name of a model that ships with Lily
    folder: str | None = None  # a model folder
    base: str | None = None  # the model folder that an adapter in ``folder`` lies on
    repo: str | None = None  # owner/name on the Hub
    revision: str | None = None  # a commit, tag or branch; None: main, and its commit is recorded
    checkpoint: str | None = None  # AudioSR's safetensors in the repo; None: it is a model folder

    def __post_init__(self) -> None:
        if [self.bundled, self.folder, self.repo].count(None) != 2:
            raise ValueError("give one of bundled, folder and repo.")
        if (self.revision or self.checkpoint) and self.repo is None:
            raise ValueError("revision and checkpoint belong to a repo; give one.")
        if self.base and self.folder is None:
            raise ValueError("base belongs to the folder of an adapter; give one.")
        if self.repo is not None and hub_id(self.repo) != HubId(self.repo):
            raise ValueError(f"repo is {self.repo!r}; give owner/name.")
        if self.checkpoint and not self.checkpoint.endswith(".safetensors"):
            raise ValueError(
                f"checkpoint is {self.checkpoint!r}; give a .safetensors file: nothing that may "
                "hold code is fetched."
            )
