"""Decode files where a decoder that falls over takes nothing with it: in processes of their own.

Recordings come from anybody, and decoders are large C libraries. A helper process, started at the
first file, forks one child a file, which decodes into a pipe. If the child crashes, outgrows its
memory or hangs, the file is refused in a sentence. Children may write no file, know no secret of
the environment, and die when their reader goes away. Only Linux is guarded so; elsewhere files are
decoded in place.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Generator
from dataclasses import asdict
from functools import lru_cache
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from lily.audio.decoder import AudioInfo, decode
from lily.errors import InputError

log = logging.getLogger(__name__)

QUIET_SECONDS = 60  # a decoder that says nothing for longer is stuck: a block takes milliseconds
CHILD_BYTES = 4 << 30  # address space of a child; libraries map 1 GB of it, a block is 2 MB at most
REQUEST_BYTES = 1 << 13  # the longest request: Linux allows paths of 4,096 bytes
# What a child is told of the environment: where libraries lie and how names are written.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME")
HEADER = struct.Struct("<cII")  # kind; channels and length of a block, or 0 and a size in bytes
INFO, BLOCK, REFUSED, SURPRISE, END = b"I", b"B", b"R", b"S", b"E"
Pieces = Generator[np.ndarray, None, None]


def decoded(path: Path) -> tuple[AudioInfo, Pieces]:
    """Describe a file and stream its samples as pieces (C, n) float32.

    Close the generator if it is not read to its end. Raises InputError as ``decode`` does, and for
    a file that makes its decoder crash or hang.
    """
    if sys.platform != "linux":
        info, pieces = decode(path)
        return info, (piece for piece in pieces)
    stream = _stream(path)
    return next(stream), stream  # type: ignore[return-value]


def _stream(path: Path) -> Generator[Any, None, None]:
    """A file's description, then its pieces, as a child tells them."""
    with _ask(path) as pipe:
        while True:
            kind, first, second = HEADER.unpack(_read(pipe, HEADER.size, path))
            if kind == END:
                return
            data = _read(pipe, 4 * first * second if kind == BLOCK else second, path)
            if kind == BLOCK:
                yield np.frombuffer(data, np.float32).reshape(first, second)
            elif kind == INFO:
                yield AudioInfo(**json.loads(data))
            elif kind == REFUSED:
                raise InputError(data.decode())
            else:
                log.warning("The decoder of %s was surprised:\n%s", path.name, data.decode())
                raise _failure(path)


def _read(pipe: FileIO, size: int, path: Path) -> bytearray:
    """Exactly ``size`` bytes; raises InputError if the child has died or hangs."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    while done < size:
        count = pipe.readinto(view[done:]) if ready.poll(1000 * QUIET_SECONDS) else 0
        if not count:
            raise _failure(path)
        done += count
    return data


def _failure(path: Path) -> InputError:
    return InputError(
        f"{path.name} makes its decoder fail, so it is damaged or no recording; export it again "
        "from its source."
    )


# ---- this side of the helper ---------------------------------------------------------------------


def _ask(path: Path) -> FileIO:
    """The pipe that a new child decodes ``path`` into."""
    reader, writer = os.pipe()
    try:
        try:
            _helper(os.getpid()).ask(path, writer)
        except OSError:  # it was killed
            _helper.cache_clear()
            _helper(os.getpid()).ask(path, writer)
    finally:
        os.close(writer)
    return FileIO(reader, "r")


@lru_cache(maxsize=1)
def _helper(_process: int) -> _Helper:
    """This process's helper; a fork of it gets its own."""
    return _Helper()


class _Helper:
    """The process that forks the children; it ends when this object does, or this process."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({{}})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code.format(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders comment on damage there
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
                | {"OPENBLAS_NUM_THREADS": "1"},  # a process with threads cannot be forked safely
            )

        if not self._link.recv(1):
            raise RuntimeError("The process that decodes files ended before it began.")

    def ask(self, path: Path, writer: int) -> None:
        """Have ``path`` decoded into the pipe ``writer``; raises OSError if the helper is gone."""
        socket.send_fds(self._link, [os.fsencode(path.absolute())], [writer])

    def __del__(self) -> None:
        self._link.close()
        self._process.poll()


# ---- the helper's side ---------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Fork a child for every request on a socket until the other end closes it."""
    import resource  # not on Windows

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stopped run still reads what it keeps
    signal.signal(signal.SIGCHLD, lambda *_: None)
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    limits = {resource.RLIMIT_AS: CHILD_BYTES, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    children: dict[int, int] = {}  # the pipe that one writes to: its process
    watched = select.poll()
    watched.register(descriptor, select.POLLIN)
    watched.register(heard, select.POLLIN)
    with socket.socket(fileno=descriptor) as link:
        link.send(b"!")  # ready
        while True:
            for number, _ in watched.poll():
                if number == heard:
                    os.read(heard, 4096)
                elif number != descriptor:  # nobody reads this pipe any more
                    watched.unregister(number)
                    os.kill(children[number], signal.SIGKILL)
                elif not _begin(link, children, watched):
                    for process in children.values():
                        os.kill(process, signal.SIGKILL)
                    return
            _reap(children, watched)


def _begin(link: socket.socket, children: dict[int, int], watched: select.poll) -> bool:
    """Take a request and fork its child; false when there are no more."""
    request, descriptors, _, _ = socket.recv_fds(link, REQUEST_BYTES, 1)
    if not request:
        return False
    (writer,) = descriptors
    process = os.fork()
    if process:
        children[writer] = process
        watched.register(writer, 0)  # tells of errors alone: the reader has gone
        return True
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for other in children:
            os.close(other)
        with os.fdopen(writer, "wb") as pipe:
            _answer(Path(os.fsdecode(request)), pipe)
        status = 0
    finally:
        os._exit(status)


def _reap(children: dict[int, int], watched: select.poll) -> None:
    """Close the pipes of children that have ended, so that their readers hear of it."""
    for writer, process in list(children.items()):
        if os.waitpid(process, os.WNOHANG)[0]:
            try:
                watched.unregister(writer)
            except KeyError:
                log.debug("The reader of %d went away first", process)
            os.close(writer)
            del children[writer]


def _answer(path: Path, pipe: BufferedWriter) -> None:
    """Decode a file into a pipe: its description, its pieces and an end, or why not."""
    try:
        info, pieces = decode(path)
        _tell(pipe, INFO, json.dumps(asdict(info)))
        for piece in pieces:
            pipe.write(HEADER.pack(BLOCK, *piece.shape))
            pipe.write(np.ascontiguousarray(piece, np.float32).data)
            pipe.flush()
        _tell(pipe, END, "")
    except InputError as error:
        _tell(pipe, REFUSED, str(error))
    except BrokenPipeError:
        os._exit(0)  # nobody reads this any more
    except Exception:
        _tell(pipe, SURPRISE, traceback.format_exc())


def _tell(pipe: BufferedWriter, kind: bytes, text: str) -> None:
    data = text.encode()
    pipe.write(HEADER.pack(kind, 0, len(data)) + data)
    pipe.flush()
