"""Laws of the widgets' JavaScript, run by Node where it is installed: syntax and arithmetic."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lily.ui.answer import SCRIPTS
from lily.ui.widget import WIDGETS

NODE = shutil.which("node")
ROOT = Path(__file__).resolve().parents[2]
ESLINT = ROOT / "node_modules" / ".bin" / "eslint"
pytestmark = pytest.mark.skipif(not NODE, reason="needs Node: apt-get install -y nodejs")


def node(script: str, *names: str) -> str:
    """What a script prints that runs after these widget files, in one scope."""
    source = "\n".join((WIDGETS / f"{name}.js").read_text() for name in names)
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", f"{source}\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.stem for path in WIDGETS.glob("*.js")))
def test_a_widget_is_a_function_body_without_undeclared_syntax(name):
    scripts = {"player": SCRIPTS, "chunk_map": ("library",), "queue": ("files",)}.get(name, ())
    names = tuple(dict.fromkeys((*scripts, name)))
    text = json.dumps("\n".join((WIDGETS / f"{n}.js").read_text() for n in names))
    node(f"new Function('element', 'trigger', 'props', 'server', 'upload', 'watch', {text});")


def test_the_p_value_is_the_exact_binomial_tail():
    from scipy.stats import binomtest

    cases = [[right, trials] for trials in (5, 10, 16, 50) for right in range(trials + 1)]
    told = json.loads(
        node(f"console.log(JSON.stringify({cases}.map(([r, n]) => chance(r, n))))", "blind_test")
    )
    expected = [binomtest(r, n, 0.5, alternative="greater").pvalue for r, n in cases]
    np.testing.assert_allclose(told, expected, rtol=1e-9, atol=1e-11)


def test_a_blind_test_counts_right_answers_and_hides_them_until_the_end():
    told = json.loads(
        node(
            """
            const test = new BlindTest(["off", "on"], 3);
            const early = [];
            while (!test.finished) {
              early.push(test.result());
              test.answer(test.source("X") === "on" ? "B" : "A");
            }
            console.log(JSON.stringify({early, told: test.result(), seen: JSON.stringify(test)}));
            """,
            "blind_test",
        )
    )
    assert told["early"] == [False] * 5  # five trials at least, and no result before the last
    assert told["told"]["right"] == told["told"]["trials"] == 5
    assert told["told"]["p_value"] == pytest.approx(1 / 32)
    assert "drawn" not in told["seen"]


def test_x_is_drawn_anew_for_every_trial():
    script = """
        const test = new BlindTest(["off", "on"], 50);
        const drawn = [];
        while (!test.finished) { drawn.push(test.source("X")); test.answer("A"); }
        console.log(JSON.stringify(drawn));
    """
    first, second = (json.loads(node(script, "blind_test")) for _ in range(2))
    assert set(first) == {"off", "on"}
    assert first != second


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_samples_are_read_as_they_were_written(tmp_path, subtype):
    samples = np.random.default_rng(1).uniform(-1, 1, (5000, 2)).astype(np.float32)
    samples[0] = (-1, 0)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 48_000, subtype=subtype)
    script = f"""
        import {{readFileSync}} from "node:fs";
        const data = readFileSync({json.dumps(str(path))});
        globalThis.fetch = async (_, options) => {{
          const [, first, last] = options.headers.Range.match(/(\\d+)-(\\d+)/).map(Number);
          return new Response(data.subarray(first, last + 1), {{status: 206}});
        }};
        const wav = await new Wav("/a").open();
        const read = await wav.read(4000, 2000);
        const start = await wav.read(0, 1);
        console.log(JSON.stringify({{frames: wav.frames, read: read.map((c) => [...c]),
          start: start.map((c) => c[0])}}));
    """
    told = json.loads(node(script, "wav"))
    assert told["frames"] == 5000
    written = soundfile.read(path, dtype="float32")[0]
    assert told["start"] == written[0].tolist()
    assert np.array_equal(np.array(told["read"]).T[:1000], written[4000:])
    assert not np.any(np.array(told["read"])[:, 1000:])  # silence past the end


@pytest.mark.skipif(not ESLINT.exists(), reason="needs eslint: npm ci")
def test_eslint_finds_nothing_wrong():
    done = subprocess.run(
        [ESLINT, "lily/ui/widgets"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_the_library_keeps_the_newest_results_and_survives_a_browser_that_keeps_nothing():
    told = json.loads(
        node(
            """
            const kept = new Map();
            const storage = {
              getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v),
            };
            const library = new Library(storage);
            for (let i = 0; i < 20; i += 1) library.add({run: `r${i}`, sources: []}, i);
            library.add({run: "r15", sources: []}, 99);
            library.remove("r19");
            const runs = library.all().map((one) => one.value.run);
            kept.set("lily.results", "{broken");
            const full = {getItem: () => null, setItem: () => { throw new Error("full"); }};
            console.log(JSON.stringify({runs, broken: library.all(), none: new Library(null).all(),
              kept: new Library(full).add({run: "x", sources: []})}));
            """,
            "library",
        )
    )
    assert told["runs"][:2] == ["r15", "r18"] and len(told["runs"]) == 11
    assert told["broken"] == told["none"] == [] and told["kept"] is False
