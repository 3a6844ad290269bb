"""Decode files in child processes: a decoder that crashes, hangs or is taken over harms nothing.

Recordings come from anyone, and decoders are large C libraries. A child gets the open file and a
pipe, may write no file, and knows no secret of the environment. If it crashes, exceeds its memory
or hangs, the file is refused in a sentence. On Linux children are forked by a helper process that
has the decoders loaded, which takes 2 ms; elsewhere, where forking after loading system libraries
is not safe, each child is a new interpreter.

Not `multiprocessing`'s forkserver: its children import the caller's main script again, it passes
the whole environment on, and one server is shared by everything in the process.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from lily.audio.decoder import decode
from lily.audio.info import AudioInfo, DecodeWarning
from lily.audio.tags import Tags, tags_of
from lily.errors import InputError

log = logging.getLogger(__name__)

HANG_SECONDS = 60  # a decoder that returns nothing for longer hangs: a block takes milliseconds
ADDRESS_SPACE = 4 << 30  # bytes of a child; libraries map 1 GB of it, a block has 2 MB at most
NAME_BYTES = 1 << 12  # the longest file name in a request; file systems allow 255 bytes
# Variables that a child gets: where libraries lie and how names are written.
ENVIRONMENT = (
    "PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "SYSTEMROOT",
)  # fmt: skip
FORKS = sys.platform == "linux"
LIMITS = {"RLIMIT_AS": ADDRESS_SPACE, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}  # by `resource`'s names
HEADER = struct.Struct("<cII")  # kind; channels and frames of a block, or 0 and a size in bytes
INFO, BLOCK, WARNING, TAGS, REFUSED, BUG, END = b"I", b"B", b"W", b"T", b"R", b"X", b"E"
DECODE, READ_TAGS = "d", "t"  # what a child is asked for
BLOCK_FRAMES = 1 << 16  # sent at once; decoders give 128 to 65,536
COMMAND = "import sys; sys.path[:] = {path!r}; from lily.audio import sandbox; sandbox.{call}"
Items = Generator[np.ndarray | DecodeWarning, None, None]


def decoded(path: Path) -> tuple[AudioInfo, Items]:
    """Describe a file and stream its samples as pieces (C, n) float32, and warnings between them.

    Close the generator if it is not read to its end. Raises InputError as ``decode`` does, and for
    a file that makes its decoder crash or hang.
    """
    stream = _stream(path, DECODE)
    return next(stream), stream


def read_tags(path: Path) -> Tags:
    """Read a file's tags; raises InputError for a file that makes its decoder crash or hang."""
    (tags,) = _stream(path, READ_TAGS)
    return tags


def _stream(path: Path, task: str) -> Generator[Any, None, None]:
    """Yield a file's description, then its pieces, or its tags, as a child sends them."""
    with _start_child(path, task) as pipe:
        while True:
            kind, first, second = HEADER.unpack(_read(pipe, HEADER.size, path))
            if kind == END:
                return
            data = _read(pipe, 4 * first * second if kind == BLOCK else second, path)
            if kind == BLOCK:
                yield np.frombuffer(data, np.float32).reshape(first, second)
            elif kind == INFO:
                yield AudioInfo(**json.loads(data))
            elif kind == WARNING:
                yield DecodeWarning(**json.loads(data))
            elif kind == TAGS:
                yield Tags.from_json(json.loads(data))
            elif kind == REFUSED:
                raise InputError(_text(data))
            else:
                log.warning("The decoder failed on %s:\n%s", path.name, _text(data))
                raise _failure(path)


def _read(pipe: IO[bytes], size: int, path: Path) -> bytearray:
    """Read exactly `size` bytes; raises InputError if the child has ended before."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise _failure(path)
        done += count
    return data


def _failure(path: Path) -> InputError:
    return InputError(
        f"{path.name} makes its decoder fail, so it is damaged or no recording; export it again "
        "from its source."
    )


def _start_child(path: Path, task: str) -> IO[bytes]:
    """Return the pipe that a new child answers a task for `path` into."""
    with path.open("rb") as file:
        if FORKS:
            return _helper().fork(file, task + path.name)
        command = COMMAND.format(path=sys.path, call=f"run_child({task + path.name!r})")
        child = _python(command, stdin=file, stdout=subprocess.PIPE)
        assert child.stdout is not None
        return child.stdout


def _python(command: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start an interpreter with a clean environment; decoders print about damage to stderr."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads cannot be forked safely
    streams = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")} | streams
    return subprocess.Popen([sys.executable, "-c", command], env=environment, bufsize=0, **streams)


# ---- the helper, seen from this process ----------------------------------------------------------


class _Helper:
    """The process that forks children; it ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one request at a time, and one start
        self.process: subprocess.Popen[bytes] | None = None

    def fork(self, file: BinaryIO, task: str) -> FileIO:
        """Return the pipe that a new child answers a task, and the file's name, into."""
        reader, writer = os.pipe()
        request = os.fsencode(task)[:NAME_BYTES], [file.fileno(), writer]
        try:
            with self._lock:
                if self.process is None or not self._ask(*request):
                    self._start()
                    if not self._ask(*request):
                        raise RuntimeError("The process that starts decoders ended at once.")
        finally:
            os.close(writer)
        return FileIO(reader)

    def _start(self) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            command = COMMAND.format(path=sys.path, call=f"serve({theirs.fileno()})")
            self.process = _python(command, pass_fds=[theirs.fileno()])

    def _ask(self, name: bytes, descriptors: list[int]) -> bool:
        """Have a child forked; false if the helper was killed."""
        try:
            socket.send_fds(self._link, [name], descriptors)
            return bool(self._link.recv(1))
        except OSError:
            return False


_helpers: dict[int, _Helper] = {}  # by process: a fork of this one starts its own


def _helper() -> _Helper:
    """Return this process's helper; `setdefault` gives all threads the same one."""
    return _helpers.setdefault(os.getpid(), _Helper())


# ---- the helper and its children -----------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Fork a child for every request on a socket until the other end closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stopped run still reads what it keeps
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave no zombies
    with socket.socket(fileno=descriptor) as link:
        while True:
            task, descriptors, _, _ = socket.recv_fds(link, NAME_BYTES, 2)
            if not task:
                return
            if not os.fork():
                link.close()
                _answer_and_exit(*descriptors, os.fsdecode(task))
            for each in descriptors:
                os.close(each)
            link.send(b"!")


def run_child(task: str) -> None:
    """Answer a task for the file that is standard input into standard output."""
    _answer_and_exit(0, 1, task)


def _answer_and_exit(source: int, sink: int, task: str) -> None:
    """Answer a task for a descriptor into another under limits, and end the process."""
    status = 1
    try:
        with open(source, "rb") as file, open(sink, "wb") as pipe:
            _limit()
            _answer(file, task, pipe)
        status = 0
    finally:
        os._exit(status)


def _limit() -> None:
    """Set this process's limits, where the system has them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, value in LIMITS.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise
            log.debug("%s cannot be limited here", name)


def _answer(file: BinaryIO, task: str, pipe: IO[bytes]) -> None:
    """Decode a file into a pipe: its description, its pieces and an end, or why not; or its tags.

    ``task`` is the kind of the task and the file's name.
    """
    asked, name = task[:1], task[1:]
    wanted = _tags(file, name) if asked == READ_TAGS else _blocks(decode(file, name))
    try:
        for item in _watched(wanted):
            if isinstance(item, np.ndarray):
                pipe.write(HEADER.pack(BLOCK, *item.shape))
                pipe.write(np.ascontiguousarray(item, np.float32).data)
                pipe.flush()
            elif isinstance(item, Tags):
                _send(pipe, TAGS, json.dumps(item.to_json()))
            else:
                kind = INFO if isinstance(item, AudioInfo) else WARNING
                _send(pipe, kind, json.dumps(asdict(item)))
        _send(pipe, END, "")
    except InputError as error:
        _send(pipe, REFUSED, str(error))
    except BrokenPipeError:
        os._exit(0)  # the reader has gone away
    except Exception:
        _send(pipe, BUG, traceback.format_exc())


def _tags(file: BinaryIO, name: str) -> Iterator[Tags]:
    yield tags_of(file, name)


def _watched(items: Iterator[Any]) -> Iterator[Any]:
    """Yield items; ends the process if one takes longer than HANG_SECONDS, even inside C code."""
    while True:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            faulthandler.cancel_dump_traceback_later()
        yield item


def _blocks(items: Iterator[Any]) -> Iterator[Any]:
    """Join pieces into blocks of BLOCK_FRAMES or more; a frame of a decoder has 1,024 or so."""
    waiting: list[np.ndarray] = []
    count = 0
    for item in items:
        if not isinstance(item, np.ndarray):
            yield item
            continue
        waiting.append(item)
        count += item.shape[1]
        if count >= BLOCK_FRAMES:
            yield np.concatenate(waiting, axis=1) if len(waiting) > 1 else waiting[0]
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _send(pipe: IO[bytes], kind: bytes, text: str) -> None:
    data = text.encode(errors="surrogateescape")  # file names may hold any bytes
    pipe.write(HEADER.pack(kind, 0, len(data)) + data)
    pipe.flush()


def _text(data: bytearray) -> str:
    return data.decode(errors="surrogateescape")
