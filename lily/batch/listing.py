"""Decide which recordings a batch is asked for: a folder, a pattern, a list, a URL or one file.

What lies in the output folder is none. What cannot be listed is told in its place, not left out.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lily.batch.places import filesystem, is_remote, walk
from lily.errors import InputError

# What counts as a recording in a folder; a list or a glob names its files itself.
SUFFIXES = frozenset(
    f".{ending}"
    for line in (
        "3gp aac ac3 aif aifc aiff amr ape asf au avi caf dsf eac3 flac flv gsm m4a m4b mka mkv",
        "mov mp2 mp3 mp4 mpc mpg oga ogg opus ra rf64 snd tta voc w64 wav webm wma wv",
    )
    for ending in line.split()
)
LISTS = frozenset({".txt", ".lst", ".list"})
_IS_READ = "{} is what is read; give another output folder."


@dataclass(frozen=True)
class Found:
    """A file that was listed, or what kept it from being one."""

    address: str  # a path or a URL
    relative: str  # below the folder that is mirrored, with slashes
    size: int
    problem: str = ""


def listed(source: str, output: str) -> Iterator[Found]:
    """The recordings of a folder, a glob, a list of paths, a URL or one file, as they are found.

    What lies in the output folder is none. Raises InputError if there is no such place.
    """
    if is_remote(source):
        yield from _remote(source, output)
    elif Path(source).is_dir():
        place = _identity(output)
        if _identity(source) == place:
            raise InputError(_IS_READ.format(output))
        yield from _below(source, "", (), place)
    elif Path(source).suffix.lower() in LISTS and Path(source).is_file():
        yield from _of_list(Path(source))
    elif Path(source).is_file():
        yield _local(source, Path(source).name)
    elif any(letter in source for letter in "*?["):
        yield from _of_pattern(source, output)
    else:
        raise InputError(
            f"{source} is no folder, file, pattern or list; give a folder, a quoted pattern such "
            "as 'tapes/**/*.mp3', a .txt with one path a line, or a URL."
        )


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a folder of this machine from all others, whatever links lead to it."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lies_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _of_pattern(pattern: str, output: str) -> Iterator[Found]:
    root = _fixed_part(pattern)
    place, real = os.path.realpath(output), os.path.realpath(root)
    if real == place:
        raise InputError(_IS_READ.format(output))
    asked_for = _lies_in(real, place)  # the pattern itself begins inside of the output folder
    for path in glob.iglob(pattern, recursive=True):
        result = not asked_for and _lies_in(os.path.realpath(os.path.dirname(path)), place)
        if not result and not os.path.isdir(path):
            yield _local(path, os.path.relpath(path, root))


def _below(
    folder: str, relative: str, above: tuple[tuple[int, int], ...], output: tuple[int, int] | None
) -> Iterator[Found]:
    """Everything below a folder; a link to a folder that is being listed is a loop."""
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here == output:
            return
        if here in above:
            yield Found(folder, relative, 0, "The link leads back to a folder above it.")
            return
        entries = os.scandir(folder)
    except OSError as error:
        yield Found(folder, relative, 0, f"The folder cannot be read ({error.strerror}).")
        return
    with entries:
        try:
            for entry in entries:
                name = f"{relative}/{entry.name}" if relative else entry.name
                if entry.name.startswith("."):
                    continue
                is_folder = _is_folder(entry)
                if is_folder:
                    yield from _below(entry.path, name, (*above, here), output)
                elif is_folder is None or PurePosixPath(name).suffix.lower() in SUFFIXES:
                    yield _local(entry.path, name)
        except OSError as error:  # a disk that fails halfway
            yield Found(folder, relative, 0, f"The folder cannot be read ({error.strerror}).")


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """Whether an entry is a folder; None where nobody can tell, as with a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return None


def _local(path: str, relative: str) -> Found:
    """A file of this machine; a pipe or a device, which may never end, is a problem."""
    try:
        status = os.stat(path)
    except OSError as error:
        return Found(path, relative, 0, f"The file cannot be read ({error.strerror}).")
    problem = "" if stat.S_ISREG(status.st_mode) else "It is a folder, a pipe or a device, no file."
    return Found(path, relative, status.st_size, problem)


def _of_list(path: Path) -> Iterator[Found]:
    """Paths or URLs, one a line; mirrored below the deepest folder that holds them all."""
    root: str | None = None
    for line in _lines(path):
        folder = os.path.dirname(line if is_remote(line) else _spelled(line))
        root = folder if root is None else _common(root, folder)
    for line in _lines(path):
        if is_remote(line):
            fs, inner = filesystem(line)
            yield _stat(fs, inner, line, line[len(root or "") :].lstrip("/"))
        else:
            yield _local(line, _spelled(line)[len(root or "") :].lstrip(os.sep))


def _spelled(path: str) -> str:
    """One spelling of a file's path; behind a link, ".." is the folder above its target."""
    folder, name = os.path.split(path)
    if ".." in folder.split(os.sep):
        folder = os.path.realpath(folder)
    return os.path.abspath(os.path.join(folder, name))


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.strip():
                yield line.rstrip("\r\n")


def _common(a: str, b: str) -> str:
    parts = []
    for one, other in zip(a.split("/"), b.split("/"), strict=False):
        if one != other:
            break
        parts.append(one)
    return "/".join(parts)


def _fixed_part(pattern: str) -> str:
    """The folder above a pattern's first wild card."""
    parts = pattern.split("/")
    wild = next(i for i, part in enumerate(parts) if any(letter in part for letter in "*?["))
    return "/".join(parts[:wild]) or ("/" if pattern.startswith("/") else ".")


def _remote(source: str, output: str) -> Iterator[Found]:
    fs, root = filesystem(source)
    pattern = root if any(letter in root for letter in "*?[") else None
    if pattern is not None:
        root = _fixed_part(pattern)
    elif fs.isfile(root):
        yield _stat(fs, root, source, PurePosixPath(root).name)
        return
    elif not fs.exists(root):
        raise InputError(f"{source} does not exist or cannot be read.")
    place = _place_in(fs, output)
    if root == place:
        raise InputError(_IS_READ.format(output))
    takes = _takes_recordings if pattern is None else _takes_matching(pattern, root)
    for path, info in walk(fs, root, lambda folder: folder != place and takes(folder, True)):
        relative = path[len(root) :].lstrip("/")
        if isinstance(info, FileNotFoundError) and path == root:
            continue  # a pattern may match nothing
        elif isinstance(info, Exception):
            problem = f"The folder cannot be read ({info})."
            yield Found(fs.unstrip_protocol(path), relative, 0, problem)
        elif takes(path, False):
            yield _found(fs, path, info, relative)


def _takes_recordings(path: str, is_folder: bool) -> bool:
    name = PurePosixPath(path)
    return not name.name.startswith(".") and (is_folder or name.suffix.lower() in SUFFIXES)


def _takes_matching(pattern: str, root: str) -> Callable[[str, bool], bool]:
    """Takes the files that match a pattern, and the folders that may hold such."""
    parts = pattern[len(root) :].strip("/").split("/")
    return lambda path, is_folder: _fits(path[len(root) :].strip("/").split("/"), parts, is_folder)


def _fits(names: list[str], parts: list[str], is_folder: bool) -> bool:
    if not names:
        return bool(parts) if is_folder else set(parts) <= {"**"}
    if not parts:
        return False
    if parts[0] == "**":
        rests = (names[n:] for n in range(len(names) + 1))
        return is_folder or any(_fits(rest, parts[1:], False) for rest in rests)
    return fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:], is_folder)


def _place_in(fs: Any, output: str) -> str | None:
    """Where the output folder is in a store; None if it is not there."""
    if not is_remote(output):
        return None
    other, place = filesystem(output)
    return place if type(other) is type(fs) else None


def _found(fs: Any, path: str, info: dict[str, Any], relative: str) -> Found:
    return Found(fs.unstrip_protocol(path), relative, int(info.get("size") or 0))


def _stat(fs: Any, path: str, address: str, relative: str) -> Found:
    try:
        return Found(address, relative, int(fs.info(path).get("size") or 0))
    except OSError as error:
        return Found(address, relative, 0, f"The file cannot be read ({error}).")
