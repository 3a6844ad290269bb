"""Laws of measuring while writing: the thread that measures loses neither blocks nor errors."""

from __future__ import annotations

import pytest
from test_engine import band_limited, engine, write  # noqa: F401, a fixture

from lily.certify.output_meter import OutputMeter


@pytest.mark.parametrize("fails_at", [1, 3])
def test_an_error_of_the_meters_ends_the_run_and_leaves_no_file(
    engine,  # noqa: F811
    tmp_path,
    monkeypatch,
    fails_at,
):
    path = write(tmp_path / "a.wav", band_limited(3.0, 4_000.0))
    push, calls = OutputMeter.push, []

    def broken(meter, **blocks):
        calls.append(blocks)
        if len(calls) == fails_at:
            raise ArithmeticError("the meter is broken")
        push(meter, **blocks)

    monkeypatch.setattr(OutputMeter, "push", broken)
    with pytest.raises(ArithmeticError, match="the meter is broken"):
        engine.run_inference(path, tmp_path / "out", seed=1, steps=1, cutoff_hz=4_000.0)
    assert not list((tmp_path / "out").glob("*.wav")) and not list(
        (tmp_path / "out").glob("*.json")
    )
