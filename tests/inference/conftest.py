"""What the tests of the engine share."""

from __future__ import annotations

import pytest

from lily.model.global_encoder import ContextReader


@pytest.fixture
def contexts(monkeypatch) -> list:
    """The contexts that the encoder reads, as they are read."""
    read, finish = [], ContextReader.finish
    monkeypatch.setattr(
        ContextReader, "finish", lambda reader: read.append(finish(reader)) or read[-1]
    )
    return read
