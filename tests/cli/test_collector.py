"""What is loaded before a run is left out of garbage collections, and later garbage is not."""

from __future__ import annotations

import gc
import weakref

import pytest

from lily.cli.collector import uncollected


class Node:
    """Refers to itself, so only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


def test_what_the_block_makes_is_never_collected_and_what_follows_is():
    try:
        with uncollected():
            inside = weakref.ref(Node())
            assert not gc.isenabled()
        after = weakref.ref(Node())
        gc.collect()
        assert inside() is not None
        assert after() is None
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_an_error_in_the_block_switches_the_collector_on_again():
    frozen = gc.get_freeze_count()
    with pytest.raises(OSError, match="stop"), uncollected():
        raise OSError("stop")
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
