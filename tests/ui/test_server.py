"""What the running app refuses, over raw HTTP: too much, too long, other files, other addresses."""

from __future__ import annotations

import io
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from fuzz import complaint, tiny_folder
from live import PATIENCE, ROOT, ask, file_data, running, upload, visitors_files
from malformed import encoded, whole

pytestmark = pytest.mark.slow

SECRET = "the host's own words"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The real app with narrow limits and a secret beside its cache."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "secret.txt").write_text(SECRET)
    limits = {"LILY_MAX_MB": "1", "LILY_MAX_SECONDS": "5", "LILY_QUEUE_PLACES": "2"}
    model = tiny_folder(folder / "model")
    with running(folder, LILY_MODEL=str(model), **limits) as started:
        yield started


@pytest.fixture
def client():
    with httpx.Client(timeout=PATIENCE) as made:
        yield made


def refused(client, app, name: str, data: bytes) -> str:
    """The sentence that refuses a file."""
    path = upload(client, app, name, data)
    kind, told = ask(client, app, "upsample", audio=file_data(path), steps=1)
    assert kind == "error", told
    assert not complaint(told["error"])
    return told["error"]


def test_too_large_a_file_is_refused_while_it_comes(client, app):
    for size in (1_050_000, 3_000_000):
        answer = client.post(f"{app.api}/upload", files={"files": ("a.wav", bytes(size))})
        assert answer.status_code == 413 and answer.text
    many = [("files", (f"{number}.wav", bytes(900_000))) for number in range(2)]
    assert client.post(f"{app.api}/upload", files=many).status_code == 413
    assert not visitors_files(app.cache)


def test_hours_of_silence_in_a_small_file_are_refused_before_they_are_decoded(client, app):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(4 * 3600 * 8_000, np.int16), 8_000, format="FLAC")
    assert len(file.getvalue()) < 1_000_000
    assert "longer than" in refused(client, app, "silence.flac", file.getvalue())


def test_what_does_not_say_its_length_is_decoded_up_to_the_limit(client, app):
    noise = np.random.default_rng(0).normal(0, 0.1, (10 * 48_000, 1))
    assert "longer than" in refused(
        client, app, "long.aac", encoded(noise, 48_000, "adts", "aac", "fltp")
    )


@pytest.mark.parametrize("secret", ["secret.txt", "app.log", "model/config.json"])
def test_no_file_outside_the_cache_is_served(client, app, secret):
    target = app.cache.parent / secret
    inside = f"{app.cache}/../{secret}"
    encoded_path = str(target).replace("/", "%2F")
    names = [str(target), inside, encoded_path, f"//{target}", f"{app.cache}/%2e%2e/{secret}"]
    roots = ("file=", "file/", "stream/", "proxy=", "static/", "assets/", "custom_component/x/")
    for root in roots:
        for name in names:
            for prefix in (app.api, app.url.rstrip("/")):
                answer = client.get(httpx.URL(f"{prefix}/{root}{name}"))
                assert target.read_text()[:20] not in answer.text or "<html" in answer.text, name
                assert SECRET not in answer.text
    for name in ("app.py", ".git/config", "lily/ui/run.py"):
        assert client.get(f"{app.api}/file={ROOT / name}").status_code in (403, 404)


@pytest.mark.parametrize("field", ["audio", "reference", "context"])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{folder}/secret.txt",
        "{cache}/../secret.txt",
        "/dev/zero",
        "/proc/self/environ",
        "../app.py",
        "http://127.0.0.1:1/a.wav",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/a.wav",
        "file:///etc/passwd",
        "\\\\host\\share",
        "",
        "a\0b",
    ],
)
def test_no_path_or_address_from_a_client_is_opened(client, app, field, path):
    path = path.format(folder=app.cache.parent, cache=app.cache)
    good = upload(client, app, "good.wav", whole("wav", 1, 8_000))
    given = [file_data(path)] if field == "context" else file_data(path)
    values = {"audio": file_data(good), field: given}
    kind, told = ask(client, app, "compare", steps=1, **values)
    assert kind == "error", told
    text = str(told)
    assert "Traceback" not in text and SECRET not in text and "root:" not in text


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b'{"audio": 3}', b'{"audio": {"path": []}}', b"\xff\xfe"]
)
def test_a_body_that_is_no_question_is_answered(client, app, body):
    answer = client.post(
        f"{app.api}/call/v2/upsample", content=body, headers={"Content-Type": "application/json"}
    )
    assert "Traceback" not in answer.text
    assert client.get(app.url).status_code == 200


def test_a_full_queue_says_so_and_the_others_are_served(client, app):
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 8_000, 2))
    file = io.BytesIO()
    soundfile.write(file, noise, 8_000, format="WAV")
    path = upload(client, app, "long.wav", file.getvalue())
    told = []

    def put() -> None:
        with httpx.Client(timeout=PATIENCE) as own:
            told.append(ask(own, app, "upsample", audio=file_data(path), steps=20, seed=1))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    kinds = [kind for kind, _ in told]
    assert len(told) == 8 and 2 <= kinds.count("complete") < 8
    assert all("page is busy" in text for kind, text in told if kind == "error")


def test_nothing_is_left_of_what_was_refused(app):
    runs = [path for path in app.cache.glob("lily-*") if not any(path.iterdir())]
    assert not runs and not list(Path(app.cache).glob("tmp*"))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_leaves_no_file(tmp_path, client, stop):
    with running(tmp_path, LILY_MODEL=str(tiny_folder(tmp_path / "model"))) as app:
        path = upload(client, app, "a.wav", whole("wav"))
        assert ask(client, app, "upsample", audio=file_data(path), steps=1)[0] == "complete"
        assert list(app.cache.iterdir())
        app.process.send_signal(stop)
        assert app.process.wait(timeout=PATIENCE) == 0
        assert not app.cache.exists()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_during_runs_ends_them_and_leaves_no_file(tmp_path, client, stop):
    noise = np.random.default_rng(0).normal(0, 0.1, (120 * 8_000, 1))
    with running(tmp_path) as app:
        path = upload(client, app, "long.flac", encoded(noise, 8_000, "flac", "flac", "s16"))
        answers: list[tuple[str, object]] = []

        def run() -> None:
            with suppress(httpx.HTTPError), httpx.Client(timeout=PATIENCE) as own:
                answers.append(ask(own, app, "upsample", audio=file_data(path)))

        visitors = [threading.Thread(target=run) for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        deadline = time.monotonic() + PATIENCE
        while not list(app.cache.glob("lily-chunks-*/*.chunk")):
            assert time.monotonic() < deadline and not answers
            time.sleep(0.05)
        app.process.send_signal(stop)
        app.process.send_signal(stop)  # of someone impatient
        assert app.process.wait(timeout=PATIENCE) == 0
        assert not app.cache.exists()
        for visitor in visitors:
            visitor.join(PATIENCE)
