"""Every input gets an output of its own."""

from __future__ import annotations

from batches import batch, results, rows
from test_engine import band_limited, write

from lily.batch.listing import find_inputs
from lily.batch.plan import Known, make_plan


def test_one_name_for_two_inputs_keeps_both_and_says_so(engine, tmp_path):
    tapes, out = tmp_path / "tapes", tmp_path / "out"
    tapes.mkdir()
    for n, name in enumerate(("a.wav", "a.flac", "b.wav", "b.flac.aiff")):
        write(tapes / name, band_limited(0.3, 4e3, seed=n), subtype="PCM_24")
    batch(engine, tapes, out)
    assert results(out) == {"a.wav.wav", "a.flac.wav", "b.wav", "b.flac.wav"}
    assert "ending is kept" in rows(out)["a.flac"]["message"] and not rows(out)["b.wav"]["message"]
    write(tapes / "b.flac", band_limited(0.3, 4e3, seed=9), subtype="PCM_24")
    late = batch(engine, tapes, out)  # b.wav has its result, b.flac.wav is b.flac.aiff's
    assert late.failed == 1 and "rename this input" in rows(out)["b.flac"]["error"]
    assert late.finished_before == 4


def test_one_file_that_a_list_spells_in_many_ways_is_one_input(tapes, tmp_path, monkeypatch):
    def planned(*lines) -> dict[str, str]:
        names.write_text("\n".join(lines))
        known = {"./one.wav": Known("done", "one.wav")}
        plan = make_plan(find_inputs(str(names), "out"), known)
        return {job.output: job.input for job in plan.jobs}

    names = tmp_path / "list.txt"
    monkeypatch.chdir(tapes)
    (tmp_path / "deep/er").mkdir(parents=True)
    (tapes / "link").symlink_to(tmp_path / "deep/er", target_is_directory=True)
    write(tmp_path / "deep/one.wav", band_limited(0.3, 4000.0))
    known = planned("one.wav", "./one.wav", f"{tapes}/one.wav", f"{tapes}//a/../one.wav", "one.wav")
    assert known == {"one.wav": "./one.wav"}
    other = planned(f"{tapes}/./a/two.flac", f"{tapes}/a/two.flac", "./one.wav")
    assert other == {"a/two.wav": f"{tapes}/./a/two.flac", "one.wav": "./one.wav"}
    linked = planned("./one.wav", "link/../one.wav")  # another file
    assert set(linked.values()) == {"./one.wav", "link/../one.wav"}
