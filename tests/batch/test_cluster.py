"""The batch on Ray: real workers, a real object store, and processes that are killed."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import faults
import pytest
from test_engine import band_limited, make_folder, write

from lily.batch.plan import Job
from lily.batch.progress import Delivered
from lily.errors import InputError

ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[dev]'")
cluster = pytest.importorskip("lily.batch.cluster")
FILES = 60
MODEL = cluster.Model("lily-mini", None, "auto", "auto")


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
    jobs = [Job(f"{n}.wav", f"out/{n}.wav", size) for n, size in enumerate(sizes)]
    queue = cluster.Queue(iter(jobs), sum(sizes), workers=2)
    left, handed = sum(sizes), []
    while bundle := queue.bundle():
        handed += bundle
        assert len(bundle) <= cluster.BUNDLE_FILES
        # Without its last job, which fills it, a bundle is within a worker's share of what is left.
        assert sum(job.size for job in bundle[:-1]) <= left / 2 / cluster.SHARES
        left -= sum(job.size for job in bundle)
    assert handed == jobs and left == 0


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_and_doubles_nothing(place):
    out = place / "killed"
    run = faults.begin(*asked(place, "killed"), *RAY)
    faults.wait_for_rows(out, FILES // 3, run)
    faults.kill_a_worker(run)
    code, said = faults.finished(run)
    assert code == 0, said
    assert faults.differences(out, place / "alone", FILES) == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_bucket_is_read_and_written(place, store, tmp_path):
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
    assert len(bucket.cat("tapes/out/manifest.jsonl").splitlines()) == 5
    assert not bucket.find("tapes/out/.lily/work")
    again = faults.begin("batch", f"{store}/in", f"{store}/out", *options, "--threads", "1")
    code, said = faults.finished(again)
    assert code == 1 and "0 done, 1 failed, 0 skipped, 4 finished before" in said


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


class FakeWorker:
    """A worker whose process dies when it begins one of the recordings named ``deadly``."""

    def __init__(self, deadly: set[str]) -> None:
        self.deadly, self.alive = deadly, True
        self.load = mock.Mock(remote=lambda *_: object())
        self.work = mock.Mock()
        self.work.options.return_value.remote = lambda jobs, request: self._reports(jobs)

    def _reports(self, jobs):
        for job in jobs:
            self.alive &= job.input not in self.deadly
            if not self.alive:
                raise ray.exceptions.RayActorError()
            yield Delivered({"input": job.input, "status": "done"})


class FakeRay:
    """As much of Ray as the driver uses."""

    def __init__(self, deadly: set[str], cpus: int = 2, gpus: int = 0) -> None:
        self.deadly, self.resources = deadly, {"CPU": cpus, "GPU": gpus}
        self.asked, self.shutdown = {}, lambda: None

    def remote(self, **options):
        self.asked = options
        return lambda _: mock.Mock(remote=lambda: FakeWorker(self.deadly))

    def cluster_resources(self):
        return self.resources

    def nodes(self):
        return [{"Resources": self.resources}]

    def wait(self, calls, **_):
        return calls[:1], []

    def get(self, report):
        return report

    def kill(self, worker):
        assert not worker.alive


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("deadly", [set(), {0}, {7}, {8, 15}])
def test_only_recordings_that_kill_their_workers_are_given_up(monkeypatch, workers, deadly):
    names = {f"{n}.wav" for n in deadly}
    monkeypatch.setattr(cluster, "ray", FakeRay(names))
    monkeypatch.setattr(cluster, "_connect", lambda address: None)
    jobs = [Job(f"{n}.wav", f"{n}.wav", 1) for n in range(16)]
    with cluster.Cluster(MODEL, "", workers) as ray_workers:
        reports = list(ray_workers.work(jobs, None, 16))
    rows = [report.row for report in reports if isinstance(report, Delivered)]
    assert sorted(row["input"] for row in rows) == sorted(job.input for job in jobs)
    assert {row["input"] for row in rows if row["status"] != "done"} == names


def test_workers_ask_ray_for_what_they_need(monkeypatch):
    monkeypatch.setattr(cluster, "_connect", lambda address: None)

    def asked(fake, *options, device="auto"):
        monkeypatch.setattr(cluster, "ray", fake)
        with cluster.Cluster(replace(MODEL, device=device), "", *options) as ray_workers:
            return ray_workers.workers, fake.asked

    count, options = asked(FakeRay(set(), cpus=16), None, 2)
    assert count == 8 and options["num_cpus"] == 2 and options["memory"] > 1 << 30
    assert asked(FakeRay(set(), cpus=16, gpus=4))[1]["num_gpus"] == 1
    assert asked(FakeRay(set(), cpus=16, gpus=4), device="cpu")[0] == 16
    count, options = asked(FakeRay(set(), cpus=16, gpus=4), 6)
    assert count == 6 and options["num_gpus"] == 0.5 and "memory" not in options
    with pytest.raises(InputError, match="1 to 16 CPU threads"):
        asked(FakeRay(set(), cpus=16), None, 17)


@pytest.mark.slow
def test_a_worker_that_starts_slowly_after_a_loss_costs_no_recording(monkeypatch):
    class Slow:
        """Loading takes longer than all the recordings; the third one kills its first worker."""

        def load(self, model, threads):
            import time

            time.sleep(4.0)

        def work(self, jobs, request):
            for job in jobs:
                if job.input == "2.wav" and not os.path.exists(request):
                    open(request, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield Delivered({"input": job.input, "status": "done"})

    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(cluster, "Worker", Slow)
        jobs = [Job(f"{n}.wav", f"{n}.wav", 1) for n in range(5)]
        with cluster.Cluster(MODEL, "", 1) as ray_workers:
            reports = list(ray_workers.work(jobs, f"{folder}/killed", 5))
    rows = [report.row for report in reports if isinstance(report, Delivered)]
    assert sorted(row["input"] for row in rows) == [job.input for job in jobs]
    assert all(row["status"] == "done" for row in rows)


@pytest.mark.slow
def test_no_cluster_at_an_address_is_a_sentence(place):
    run = faults.begin(*asked(place, "nobody"), "--ray", "127.0.0.1:1")
    code, said = faults.finished(run)
    assert code == 2 and "No Ray cluster answers at 127.0.0.1:1" in said, said
