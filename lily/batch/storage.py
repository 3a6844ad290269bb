"""Files on this machine, or behind any URL that fsspec knows (``s3://``, ``gs://``, ``hf://``).

Only this module imports fsspec. Decoders need local files, so remote recordings are downloaded to a
temporary folder and results are uploaded from one. An object store shows an object whole or not at
all; on this machine a file is written under a temporary name and then renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from lily.audio.temp_files import link_new
from lily.errors import InputError

HASH_BLOCK = 1 << 20  # bytes
HEAD_BYTES = 1 << 16  # tags and pictures may precede the first frame


@dataclass(frozen=True)
class Entry:
    """A file or folder that was found in a folder."""

    address: str
    name: str
    is_folder: bool
    size: int = 0  # bytes
    problem: str = ""  # why it cannot be read


def is_remote(address: str) -> bool:
    """Whether an address is a URL."""
    return "://" in address


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; raises InputError."""
    try:
        # Without the cache, listings of millions of objects are streamed.
        return fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise InputError(f"{address} needs another package: {error}.") from error
    except ValueError as error:
        raise InputError(f"fsspec does not know the address {address}: {error}.") from error


def check_reachable(address: str) -> None:
    """Raise InputError if the store of a URL does not answer; local paths are not checked."""
    if not is_remote(address):
        return
    fs, path = filesystem(address)
    try:
        fs.info(path)
    except FileNotFoundError:
        return
    except Exception as error:  # every store's client has its own errors
        raise InputError(
            f"{address} does not answer: {error}. Check the address, the network and the keys."
        ) from error


def kind_of(address: str) -> str:
    """``file``, ``folder``, or empty if there is neither."""
    if is_remote(address):
        fs, path = filesystem(address)
        return "file" if fs.isfile(path) else "folder" if fs.exists(path) else ""
    return "folder" if os.path.isdir(address) else "file" if os.path.exists(address) else ""


def identity(address: str) -> Any:
    """Equal for all addresses of one folder, links resolved; None if it does not exist."""
    if is_remote(address):
        fs, path = filesystem(address)
        return fs.unstrip_protocol(path)
    try:
        status = os.stat(address)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def entries(folder: str) -> Iterator[Entry]:
    """The files and folders in a folder; raises OSError where it cannot be listed."""
    if not is_remote(folder):
        with os.scandir(folder) as found:
            for one in found:
                yield _entry(one)
        return
    fs, root = filesystem(folder)
    try:
        listing = fs.ls(root, detail=True)
    except OSError:
        raise
    except Exception as error:  # every store's client has its own errors
        raise OSError(str(error)) from error
    for info in listing:
        path = info["name"].rstrip("/")
        if path != root:  # stores may keep an object that stands for the folder
            name = PurePosixPath(path).name
            size = int(info.get("size") or 0)
            yield Entry(fs.unstrip_protocol(path), name, info["type"] == "directory", size)


def _entry(found: os.DirEntry[str]) -> Entry:
    try:
        is_folder = found.is_dir()
    except OSError:  # a link to itself, for example
        is_folder = False
    if is_folder:
        return Entry(found.path, found.name, True)
    file = file_at(found.path)
    return Entry(found.path, found.name, False, file.size, file.problem)


def file_at(address: str) -> Entry:
    """Describe one file; a pipe or device, which may never end, is a problem."""
    name = PurePosixPath(address).name
    try:
        if is_remote(address):
            fs, path = filesystem(address)
            return Entry(address, name, False, int(fs.info(path).get("size") or 0))
        size = os.stat(address).st_size
    except Exception as error:  # every store's client has its own errors
        reason = getattr(error, "strerror", None) or error
        return Entry(address, name, False, 0, f"It cannot be read ({reason}).")
    problem = "" if os.path.isfile(address) else "It is a folder, a pipe or a device, not a file."
    return Entry(address, name, False, size, problem)


def join(folder: str, relative: str) -> str:
    """The address of a file below a folder."""
    return f"{folder.rstrip('/')}/{relative}"


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Relative name and size of every file below a folder; none if it does not exist.

    Raises InputError where a listing fails, since a file that is not listed would be lost.
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        try:
            for entry in entries(join(folder, relative) if relative else folder):
                name = f"{relative}/{entry.name}" if relative else entry.name
                if entry.is_folder:
                    pending.append(name)
                else:
                    yield name, entry.size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(
                f"{join(folder, relative)} cannot be listed ({error.strerror or error}). Check the "
                "disk or the network, then run the same command again."
            ) from error


def size_of(address: str) -> int | None:
    """The size of a file in bytes, or None if there is nothing at the address.

    Raises OSError where there cannot be a file, such as under a name that is too long.
    """
    if not is_remote(address):
        try:
            return os.lstat(address).st_size
        except FileNotFoundError:
            return None
    fs, path = filesystem(address)
    return int(fs.info(path).get("size") or 0) if fs.exists(path) else None


def read_bytes(address: str) -> bytes | None:
    """The content of a small file, or None if it does not exist."""
    try:
        fs, path = filesystem(address)
        return fs.cat_file(path)
    except FileNotFoundError:
        return None


def read_head(address: str) -> bytes:
    """The first bytes of a remote file, enough to recognise its format; raises InputError."""
    fs, path = filesystem(address)
    try:
        return fs.cat_file(path, start=0, end=HEAD_BYTES)
    except Exception as error:  # every store's client has its own errors
        raise InputError(f"{address} cannot be read ({error}).") from error


def write_bytes(address: str, content: bytes) -> None:
    """Write a small file, whole or not at all."""
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
    """Remove a file, or a folder with its content, if it exists."""
    if is_remote(address):
        fs, path = filesystem(address)
        if fs.exists(path):
            fs.rm(path, recursive=True)
    elif os.path.isdir(address) and not os.path.islink(address):
        shutil.rmtree(address)
    elif os.path.lexists(address):
        os.remove(address)


def download(address: str, folder: Path) -> Path:
    """A local file with the content of an address: the file itself, or a copy in ``folder``."""
    if not is_remote(address):
        return Path(address)
    fs, path = filesystem(address)
    copy = folder / PurePosixPath(path).name
    fs.get_file(path, str(copy))
    return copy


def upload(file: Path, address: str) -> None:
    """Copy a local file to a URL, whole or not at all; replaces what is there."""
    fs, path = filesystem(address)
    fs.makedirs(fs._parent(path), exist_ok=True)
    fs.put_file(str(file), path)


def place(file: Path, address: str) -> None:
    """Move a finished local file to an address, whole or not at all.

    Raises FileExistsError rather than replacing a file. (A store cannot do both in one step: there
    another program may write the address between the question and the upload.)
    """
    if is_remote(address):
        if size_of(address) is not None:
            raise FileExistsError(f"{address} exists already and is not overwritten.")
        upload(file, address)
    else:
        os.makedirs(os.path.dirname(address) or ".", exist_ok=True)
        try:
            link_new(file, Path(address))
        except FileExistsError:
            raise FileExistsError(f"{address} exists already and is not overwritten.") from None
    file.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a local file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
