"""A spool gives back what it was given, from memory or from the disk, and leaves no file."""

import pytest
import torch

from lily.audio import spool
from lily.audio.spool import Spool


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_what_was_appended_comes_back_bit_for_bit_in_any_portions(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(2, 700, 3, generator=generator)
    with Spool(tmp_path) as kept:
        for part in whole.split([1, 0, 300, 399], dim=1):
            kept.append(part)
        assert kept.count == 700
        read = [kept.read(256) for _ in range(3)]
        assert kept.count == 0 and [part.shape[1] for part in read] == [256, 256, 188]
        assert torch.equal(torch.cat(read, dim=1), whole)
    assert list(tmp_path.iterdir()) == []
