"""Reach files where they lie: on this machine, or behind any address that fsspec knows.

Only this file imports fsspec. Its clients list, read and write; a decoder needs a file, so remote
recordings are copied to this machine's temporary folder and results from it. An object store shows
an object whole or not at all; on this machine a rename sees to that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from lily.errors import InputError

HASHED_AT_ONCE = 1 << 20  # bytes
STATE = ".lily"  # in the output folder: what a run needs to go on, and what is half-written


def is_remote(address: str) -> bool:
    """Whether an address names a place outside of this machine's file system."""
    return "://" in address


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; raises InputError."""
    try:
        # Listings of millions are streamed, never kept.
        return fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise InputError(f"{address} needs another package: {error}.") from error
    except ValueError as error:
        raise InputError(f"{address} is no address that fsspec knows: {error}.") from error


def reach(address: str) -> None:
    """Ask a URL's store for it once, whether it is there or not; raises InputError if none answers.

    Paths of this machine are not asked for.
    """
    if not is_remote(address):
        return
    fs, path = filesystem(address)
    try:
        fs.info(path)
    except FileNotFoundError:
        return
    except Exception as error:  # every store's client has errors of its own
        raise InputError(
            f"{address} does not answer: {error}. Check the address, the network and the keys."
        ) from error


def walk(
    fs: Any, folder: str, enters: Callable[[str], bool]
) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
    """Every file below a remote folder; in place of one that cannot be listed, the reason.

    fsspec's own walk leaves such a folder out and says nothing.
    """
    try:
        listing = fs.ls(folder, detail=True)
    except Exception as error:  # every store's client has errors of its own
        yield folder, error
        return
    for info in listing:
        path = info["name"].rstrip("/")
        if path == folder:  # the object that marks a folder
            continue
        if info["type"] != "directory":
            yield path, info
        elif enters(path):
            yield from walk(fs, path, enters)


def joined(folder: str, relative: str) -> str:
    """The address of a file below a folder."""
    return f"{folder.rstrip('/')}/{relative}"


def exists(address: str) -> bool:
    """Whether there is a file at an address."""
    if not is_remote(address):
        return os.path.lexists(address)
    fs, path = filesystem(address)
    return fs.exists(path)


def names_below(folder: str) -> Iterator[str]:
    """The relative names of all files below a remote folder; none if it is not there.

    Raises InputError where a listing fails: a name that is missing would be taken for no file.
    """
    fs, root = filesystem(folder)
    for path, info in walk(fs, root, lambda folder: True):
        if isinstance(info, FileNotFoundError):
            continue
        if isinstance(info, Exception):
            raise InputError(
                f"{fs.unstrip_protocol(path)} cannot be listed ({info}). Check the network and the "
                "keys, then run the same command again."
            ) from info
        yield path[len(root) :].lstrip("/")


def read_bytes(address: str) -> bytes | None:
    """A small file, or None if it is not there."""
    try:
        fs, path = filesystem(address)
        return fs.cat_file(path)
    except FileNotFoundError:
        return None


def write_bytes(address: str, content: bytes) -> None:
    """A small file, whole or not at all."""
    if is_remote(address):
        fs, path = filesystem(address)
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, content)
        return
    temporary = f"{address}.{os.getpid()}.part"
    os.makedirs(os.path.dirname(address), exist_ok=True)
    Path(temporary).write_bytes(content)
    os.replace(temporary, address)


def remove(address: str) -> None:
    """Remove a file, or a folder with all it holds, if it is there."""
    if is_remote(address):
        fs, path = filesystem(address)
        if fs.exists(path):
            fs.rm(path, recursive=True)
    elif os.path.isdir(address) and not os.path.islink(address):
        shutil.rmtree(address)
    elif os.path.lexists(address):
        os.remove(address)


def fetched(address: str, folder: Path) -> Path:
    """A file of this machine with what lies at an address: itself, or a copy below ``folder``."""
    if not is_remote(address):
        return _decodable(Path(address), folder)
    fs, path = filesystem(address)
    copy = folder / "in" / PurePosixPath(path).name
    copy.parent.mkdir()
    fs.get_file(path, str(copy))
    return copy


def _decodable(path: Path, folder: Path) -> Path:
    """The path, or a link to it where its name is no text, which libsndfile cannot open."""
    try:
        str(path).encode()
        return path
    except UnicodeEncodeError:
        link = folder / f"in{path.suffix}"
        link.symlink_to(path.resolve())
        return link


def delivered(file: Path, address: str) -> None:
    """Move a finished file of this machine to its address, whole or not at all."""
    if not is_remote(address):
        os.makedirs(os.path.dirname(address) or ".", exist_ok=True)
        os.replace(file, address)
        return
    fs, path = filesystem(address)
    fs.makedirs(fs._parent(path), exist_ok=True)
    fs.put_file(str(file), path)
    file.unlink()


def sha256(path: Path) -> str:
    """The digest of a file of this machine, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
