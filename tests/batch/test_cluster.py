"""The batch on Ray: real workers, a real object store, and processes that are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest import mock

import faults
import pytest
from test_engine import band_limited, make_folder, write

from lily.batch.work import Delivered
from lily.errors import InputError

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[dev]'")
RayActorError = ray.exceptions.RayActorError
FILES = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, short recordings, and their results by one process with one thread."""
    place = tmp_path_factory.mktemp("cluster")
    make_folder(place / "model")
    faults.make_tapes(place / "in", FILES, 0.5, 2.0)
    code, said = faults.finished(faults.begin(*asked(place, "alone"), "--threads", "1"))
    assert code == 0, said
    return place


def asked(place: Path, out: str) -> list[str]:
    return [
        *("batch", str(place / "in"), str(place / out), "--weights", str(place / "model")),
        *("--seed", "5", "--steps", "8"),
    ]


RAY = ("--ray", "--workers", "2", "--threads", "1")


@pytest.mark.parametrize("sizes", [[10] * 80, [50, 20, 10, 10, *[1] * 60], [3], []])
def test_bundles_hold_every_job_once_and_shrink_so_that_all_workers_end_together(sizes):
    from lily.batch.bundles import BUNDLE_FILES, SHARES, Queue
    from lily.batch.plan import Job

    jobs = [Job(f"{n}.wav", f"out/{n}.wav", size) for n, size in enumerate(sizes)]
    queue = Queue(iter(jobs), sum(sizes), workers=2)
    left, handed = sum(sizes), []
    while bundle := queue.bundle():
        handed += bundle
        assert len(bundle) <= BUNDLE_FILES
        # Without its last job, which fills it, a bundle is within a worker's share of what is left.
        assert sum(job.size for job in bundle[:-1]) <= left / 2 / SHARES
        left -= sum(job.size for job in bundle)
    assert handed == jobs and left == 0


def test_a_worker_that_is_killed_loses_and_doubles_nothing(place):
    out = place / "killed"
    run = faults.begin(*asked(place, "killed"), *RAY)
    faults.wait_for_rows(out, FILES // 3, run)
    victims = faults.workers_of(run)
    assert victims, "no worker was found to kill"
    os.kill(victims[0], signal.SIGKILL)
    code, said = faults.finished(run)
    assert code == 0, said
    assert faults.differences(out, place / "alone", FILES) == []


@pytest.mark.parametrize("ways", [("--threads", "1"), RAY], ids=["alone", "ray"])
def test_a_driver_that_is_killed_again_and_again_loses_and_doubles_nothing(place, ways):
    out = place / f"driver{len(ways)}"
    moments = (6, 15, 33) if ways == RAY else (1, 17, 41)
    for rows in moments:
        run = faults.begin(*asked(place, out.name), *ways)
        faults.wait_for_rows(out, rows, run)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.wav")}
    code, said = faults.finished(faults.begin(*asked(place, out.name), *ways))
    assert code == 0 and "finished before" in said, said
    assert faults.differences(out, place / "alone", FILES) == []
    assert stamps and all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_a_store_that_does_not_answer_is_told_in_a_sentence(tmp_path):
    pytest.importorskip("s3fs", reason="needs s3fs: pip install -e '.[dev]'")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", **keys}  # a port nobody listens on
    run = faults.begin("batch", "s3://tapes/in", tmp_path / "out", **nowhere)
    code, said = faults.finished(run)
    assert code == 2 and "s3://tapes/in does not answer" in said, said
    assert "Traceback" not in said and not (tmp_path / "out").exists()


@pytest.fixture
def store(monkeypatch) -> str:
    """An S3 server on this machine, with a bucket."""
    moto = pytest.importorskip("moto.server", reason="needs moto: pip install -e '.[dev]'")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install -e '.[dev]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("REGION", "eu-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("tapes")
    yield "s3://tapes"
    server.stop()


def test_a_bucket_is_read_and_written_and_a_long_recording_is_split(place, store, tmp_path):
    import s3fs

    folder = tmp_path / "mixed"
    write(folder_of(folder) / "long.wav", band_limited(40.0, 4000.0, channels=2))
    for n in range(3):
        write(folder / f"{n}.wav", band_limited(0.5 + n, 4000.0, seed=n))
    (folder / "bad.mp3").write_text("no sound")
    bucket = s3fs.S3FileSystem(use_listings_cache=False)
    bucket.put(f"{folder}/", "tapes/in/", recursive=True)
    options = ["--weights", str(place / "model"), "--seed", "5", "--cutoff", "4000"]
    run = faults.begin("batch", f"{store}/in", f"{store}/out", *options, *RAY, "--json")
    out, said = run.communicate(timeout=300)
    assert run.returncode == 1 and "4 done, 1 failed" in said, said
    alone = faults.begin("batch", folder, tmp_path / "alone", *options, "--threads", "1")
    assert faults.finished(alone)[0] == 1
    for name in ("long.wav", "0.wav", "1.wav", "2.wav"):
        assert bucket.cat(f"tapes/out/{name}") == (tmp_path / "alone" / name).read_bytes()
    assert len(bucket.find("tapes/out/manifest")) == 1 and not bucket.find("tapes/out/.lily/work")
    again = faults.begin("batch", f"{store}/in", f"{store}/out", *options, "--threads", "1")
    code, said = faults.finished(again)
    assert code == 1 and "0 done, 1 failed, 0 skipped, 4 finished before" in said


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_sizes_follow_memory_and_cores():
    from lily.batch.sizing import sized

    machine = {"CPU": 16.0, "memory": 64.0 * 2**30}
    assert sized([machine], 28 << 20, None, None).workers == 16
    large = sized([machine], 2700 << 20, None, None)
    assert large.workers == 8 and large.threads == 2  # what memory holds, all cores in use
    graphics = sized([{**machine, "GPU": 4.0}], 2700 << 20, None, None)
    assert (graphics.workers, graphics.gpus, graphics.threads) == (4, 1.0, 4)
    shared = sized([{**machine, "GPU": 1.0}], 28 << 20, 4, None)
    assert (shared.workers, shared.gpus) == (4, 0.25)
    with pytest.raises(InputError, match="do not fit"):
        sized([machine], 0, 16, 2)


def test_a_worker_lies_within_one_machine():
    from lily.batch.sizing import sized

    memory = 64.0 * 2**30
    head = {"CPU": 32.0, "memory": memory}
    nodes = [head, *[{"CPU": 8.0, "GPU": 1.0, "memory": memory}] * 2]
    mixed = sized(nodes, 2700 << 20, None, None)
    assert (mixed.workers, mixed.threads, mixed.gpus) == (2, 8, 1.0)  # the head has no GPU
    odd = sized([{"CPU": 5.0, "memory": memory}] * 2, 28 << 20, 3, None)
    assert (odd.workers, odd.threads) == (3, 2)  # with 3 threads each, one node holds one only
    with pytest.raises(InputError, match="do not fit the cluster's 5, 5 CPU cores"):
        sized([{"CPU": 5.0, "memory": memory}] * 2, 28 << 20, 3, 3)


class FakeCall:
    """One call of a fake worker: its recordings one after another, unless the worker is lost."""

    def __init__(self, names, waiting, deadly):
        self.names, self.waiting, self.deadly, self.lost = names, waiting, deadly, False
        waiting.append(self)

    def __next__(self):
        if not self.lost and self.names and self.names[0] == self.deadly:
            for call in self.waiting:  # the worker takes all that wait for it along
                call.lost = True
            self.waiting.clear()
        if self.lost:
            return RayActorError()
        if not self.names:
            self.waiting.remove(self)
            raise StopIteration
        return Delivered({"input": self.names.pop(0), "status": "done"})


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("deadly", [0, 7, 8, 15])
def test_only_the_recording_that_brings_workers_down_is_given_up(monkeypatch, workers, deadly):
    from lily.batch import cluster
    from lily.batch.bundles import Queue
    from lily.batch.plan import Job

    jobs = [Job(f"{n}.wav", f"{n}.wav", 1) for n in range(16)]
    actors = []
    for _ in range(workers):
        waiting = []
        actor = mock.Mock(waiting=waiting)
        actor.work.options.return_value.remote = lambda jobs, *_, waiting=waiting: FakeCall(
            [job.input for job in jobs], waiting, f"{deadly}.wav"
        )
        actors.append(actor)

    def wait(calls, **_):
        ready = [c for c in calls if c.lost] or [c for c in calls if c.waiting[0] is c]
        return ready[:1], []

    def get(report):
        if isinstance(report, Exception):
            raise report
        return report

    monkeypatch.setattr(cluster, "ray", mock.Mock(wait=wait, get=get))
    queue = Queue(iter(jobs), len(jobs), workers)
    told = list(
        cluster.Cluster._gathered(mock.Mock(_lost=lost_of(cluster)), queue, None, actors, [])
    )
    rows = [report.row for report in told if isinstance(report, Delivered)]
    assert sorted(row["input"] for row in rows) == sorted(job.input for job in jobs)
    assert [row["input"] for row in rows if row["status"] != "done"] == [f"{deadly}.wav"]


def lost_of(cluster):
    return lambda *arguments: cluster.Cluster._lost(None, *arguments)


def test_no_cluster_at_an_address_is_a_sentence(place):
    run = faults.begin(*asked(place, "nobody"), "--ray", "127.0.0.1:1")
    code, said = faults.finished(run)
    assert code == 2 and "No Ray cluster answers at 127.0.0.1:1" in said, said
