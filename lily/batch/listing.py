"""Find the recordings of a batch: in a folder, by a pattern, from a list of paths, or one file.

Folders and patterns may be local or URLs and are searched by the same code. Results in the output
folder are never inputs. What cannot be listed or read is returned with the reason.
"""

from __future__ import annotations

import codecs
import fnmatch
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lily.audio.probe import probe
from lily.batch.storage import Entry, entries, file_at, identity, is_remote, kind_of, read_head
from lily.errors import InputError, LilyError

# Endings that promise a recording: such a file is always tried, and fails if it cannot be decoded.
# Any other file that a search finds is a recording if a decoder opens it.
SUFFIXES = frozenset(
    f".{ending}"
    for line in (
        "3gp aac ac3 aif aifc aiff amr ape asf au avi caf dsf eac3 flac flv gsm m4a m4b mka mkv",
        "mov mp2 mp3 mp4 mpc mpg oga ogg opus ra rf64 snd tta voc w64 wav webm wma wv",
    )
    for ending in line.split()
)
LISTS = frozenset({".txt", ".lst", ".list"})
WILD = frozenset("*?[")
BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


@dataclass(frozen=True)
class Found:
    """An input, or why it cannot be one."""

    address: str  # a path or a URL
    relative: str  # below the folder that is mirrored, with slashes
    size: int  # bytes
    problem: str = ""  # why it cannot be read
    left_out: str = ""  # why it is not taken for a recording


def find_inputs(source: str, output: str) -> Iterator[Found]:
    """The recordings that ``source`` names, except for what lies in the ``output`` folder.

    Raises InputError if ``source`` does not exist or is the output folder itself.
    """
    if os.sep != "/" and not is_remote(source):
        source = source.replace(os.sep, "/")
    kind = kind_of(source)
    if kind == "folder":
        yield from _search(source, output, lambda parts, is_folder: True)
    elif kind == "file" and PurePosixPath(source).suffix.lower() in LISTS and not is_remote(source):
        yield from _listed_in(Path(source))
    elif kind == "file":
        entry = file_at(source)
        yield Found(source, entry.name, entry.size, entry.problem)
    elif WILD & set(source):
        root, pattern = _split(source)
        yield from _search(
            root, output, lambda parts, is_folder: _matches(parts, pattern, is_folder)
        )
    else:
        raise InputError(
            f"{source} is not a folder, file, pattern or list; give a folder, a quoted pattern "
            "such as 'tapes/**/*.mp3', a .txt with one path per line, or a URL."
        )


Selects = Callable[[list[str], bool], bool]  # (parts of a relative path, whether it is a folder)


def _search(root: str, output: str, selects: Selects) -> Iterator[Found]:
    results = identity(output)
    if results is not None and identity(root) == results:
        raise InputError(f"{output} is the folder that is read; give another output folder.")
    yield from _below(root, [], (), results, selects)


def _below(
    folder: str, parts: list[str], above: tuple[Any, ...], results: Any, selects: Selects
) -> Iterator[Found]:
    """The files below a folder, in its subfolders too; ``above`` are the folders it lies in."""
    relative, here = "/".join(parts), identity(folder)
    if here == results and results is not None:
        return
    if here in above:
        yield Found(folder, relative, 0, "The link leads back to a folder above it.")
        return
    try:
        for entry in entries(folder):
            path = [*parts, entry.name]
            if not selects(path, entry.is_folder):
                continue
            if entry.is_folder and not entry.name.startswith("."):
                yield from _below(entry.address, path, (*above, here), results, selects)
            else:
                yield _judged(entry, "/".join(path))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not parts:
            return  # a pattern that begins with a folder that does not exist matches nothing
        reason = error.strerror or error
        yield Found(folder, relative, 0, f"The folder cannot be read ({reason}).")


def _judged(entry: Entry, relative: str) -> Found:
    """A file that a search has found, and whether it is a recording."""
    reason, suffix = "", PurePosixPath(entry.name).suffix.lower()
    if entry.name.startswith("."):
        reason = f"Hidden {'folder' if entry.is_folder else 'file'}; a list can name it."
    elif not entry.problem and suffix not in SUFFIXES:
        reason = _not_audio(entry)
    return Found(entry.address, relative, entry.size, "" if reason else entry.problem, reason)


def _not_audio(entry: Entry) -> str:
    """Why no decoder opens a file; empty if one does. Of a remote file the beginning is read."""
    try:
        if not is_remote(entry.address):
            probe(entry.address)
            return ""
        with tempfile.TemporaryDirectory(prefix="lily-") as folder:
            copy = Path(folder, entry.name)
            copy.write_bytes(read_head(entry.address))
            probe(copy)
    except LilyError as error:
        return f"Not audio: {error}"
    return ""


def _split(pattern: str) -> tuple[str, list[str]]:
    """The folder that a pattern begins with, and the parts below it.

    A part that exists as it is written is no pattern: ``My [Live] tapes`` is a folder's name.
    """
    parts = pattern.split("/")
    for n, part in enumerate(parts):
        if WILD & set(part) and not kind_of("/".join(parts[: n + 1])):
            break
    root = "/".join(parts[:n])
    return root or ("/" if pattern.startswith("/") else "."), parts[n:]


def _matches(names: list[str], pattern: list[str], is_folder: bool) -> bool:
    """Whether a file matches a pattern, or a folder may hold files that do."""
    if not names:
        return bool(pattern) if is_folder else set(pattern) <= {"**"}
    if not pattern:
        return False
    if names[0].startswith(".") and not pattern[0].startswith("."):
        return False
    if pattern[0] == "**":
        rests = (names[n:] for n in range(len(names) + 1))
        return is_folder or any(_matches(rest, pattern[1:], False) for rest in rests)
    fits = names[0] == pattern[0] or fnmatch.fnmatchcase(names[0], pattern[0])
    return fits and _matches(names[1:], pattern[1:], is_folder)


def _listed_in(path: Path) -> Iterator[Found]:
    """The files of a list, mirrored below the deepest folder that holds them all."""
    lines = [(line, line if is_remote(line) else _normal(line)) for line in _lines(path)]
    folders = {PurePosixPath(normal).parts[:-1] for _, normal in lines}
    root = len(os.path.commonprefix(list(folders))) if folders else 0
    for line, normal in lines:
        entry = file_at(line)
        relative = "/".join(PurePosixPath(normal).parts[root:])
        yield Found(line, relative, entry.size, entry.problem)


def _lines(path: Path) -> Iterator[str]:
    """The paths of a list, as editors on any system save it: one per line.

    UTF-8 or UTF-16 with a byte order mark, else bytes as they are. Blank lines and lines that begin
    with # are skipped, quotes and blanks around a path dropped, unless a file has that very name.
    """
    content = path.read_bytes()
    bom = next((bom for bom in BOMS if content.startswith(bom)), b"")
    text = content[len(bom) :].decode(BOMS.get(bom, "utf-8"), errors="surrogateescape")
    for line in text.split("\n"):
        line = line.rstrip("\r")
        if line and os.path.lexists(line):
            yield line
            continue
        line = line.strip()
        if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'":
            line = line[1:-1]
        if line and not line.startswith("#"):
            yield line


def _normal(path: str) -> str:
    """One spelling for each file; behind a link, ".." is the folder above the link's target."""
    folder, name = os.path.split(path)
    if ".." in folder.split(os.sep):
        folder = os.path.realpath(folder)
    return os.path.abspath(os.path.join(folder, name))
