"""A small Hub on 127.0.0.1: the parts of its HTTP interface that huggingface_hub's client uses.

Repositories live in memory as lists of commits. Model info, resolve (HEAD, Range, ETag and the
``X-`` headers, large files redirected as the real Hub does), repo creation, preupload, LFS batch,
upload and verify, commit, Space variables. Faults are asked for by attributes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

BLOCK = 1 << 16  # bytes written at a time
TYPES = {"": "model", "spaces/": "space", "datasets/": "dataset"}


@dataclass(frozen=True)
class Stored:
    """One file of a commit."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        if self.large:
            return self.sha256
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Repo:
    """A repository: its commits, newest last, each a whole tree."""

    private: bool = False
    commits: list[tuple[str, dict[str, Stored]]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def commit(self, changes: dict[str, Stored | None]) -> str:
        """Add a commit with these files changed or (None) deleted."""
        tree = {**(self.commits[-1][1] if self.commits else {}), **changes}
        tree = {path: file for path, file in tree.items() if file is not None}
        facts = [len(self.commits), *((p, f.sha256) for p, f in sorted(tree.items()))]
        name = hashlib.sha1(repr(facts).encode()).hexdigest()
        self.commits.append((name, tree))
        return name

    def at(self, revision: str) -> tuple[str, dict[str, Stored]] | None:
        """The commit a branch name or a hash names."""
        if revision == "main":
            return self.commits[-1] if self.commits else None
        return next((c for c in self.commits if c[0] == revision), None)


class HubServer:
    """The Hub; ``address`` is what HF_ENDPOINT is set to."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.token = "hf_" + "right" * 6
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.drop_after: int | None = None  # bytes of the next large download, then hang up, once
        self.spoil = False  # send large files with a byte changed
        self.bytes_per_second: float | None = None
        self.failing: int | None = None  # answer everything with this status
        server = self

        class Bound(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        # Another host's name, as on the real Hub: no token goes there, and its redirect is told.
        self.store = f"http://localhost:{self._http.server_address[1]}/store"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._http.shutdown()
        self._http.server_close()

    def put(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Commit files to a model repository, made if need be; returns the commit."""
        repo = self.repos.setdefault(("model", name), Repo(private))
        return repo.commit({p: Stored(d, p.endswith(".safetensors")) for p, d in files.items()})

    def asked(self, method: str, part: str) -> list[dict[str, str]]:
        """Headers of every request of a method whose path contains ``part``."""
        return [headers for m, path, headers in self.requests if m == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlparse(self.path).path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.hub.requests.append((self.command, path, headers))
        self.body = self.rfile.read(int(headers.get("content-length", 0)))
        if "chunked" in headers.get("transfer-encoding", ""):
            self.body = self._read_chunked()
        if self.hub.failing:
            self._json({"error": "out of order"}, self.hub.failing)
            return
        for method, pattern, respond in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                respond(self, **match.groupdict())
                return
        self._json({"error": f"no route {self.command} {path}"}, 404)

    def _read_chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._json({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _repo(self, kind: str, name: str, *, write: bool = False) -> Repo | None:
        """The repository, or None after a refusal: 401 tells a stranger nothing, as on the Hub."""
        repo = self.hub.repos.get((kind, name))
        if self.headers.get("Authorization") and not self._known():
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif (repo is None or repo.private or write) and not self._known():
            self._refuse(401, "RepoNotFound" if not write else "", "Repository not found")
        elif repo is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        else:
            return repo
        return None

    def _commit(self, repo: Repo, revision: str) -> tuple[str, dict[str, Stored]] | None:
        found = repo.at(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # ---- reading --------------------------------------------------------------------------------

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repo = self._repo(kind.removesuffix("s"), name)
        found = self._commit(repo, revision or "main") if repo else None
        if not repo or not found:
            return
        siblings = []
        for path, file in found[1].items():
            entry = {"rfilename": path, "size": len(file.data), "blobId": file.etag[:40]}
            if file.large:
                entry["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 134}
            siblings.append(entry)
        facts = {"id": name, "modelId": name, "sha": found[0], "private": repo.private}
        self._json({**facts, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def resolve(self, prefix: str, name: str, revision: str, path: str) -> None:
        repo = self._repo(TYPES[prefix or ""], name)
        found = self._commit(repo, revision) if repo else None
        if not found:
            return
        commit, tree = found
        file = tree.get(path)
        if file is None:
            headers = {"X-Repo-Commit": commit, "X-Error-Code": "EntryNotFound"}
            self._json({"error": "Entry not found"}, 404, headers)
            return
        if file.large:  # the Hub sends its clients to a store that knows no repository
            self.hub.objects[file.sha256] = file.data
            self.send_response(302)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Etag", f'"{file.etag}"')
            self.send_header("X-Linked-Size", str(len(file.data)))
            self.send_header("Location", f"{self.hub.store}/{file.sha256}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(file.data, {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"'})

    def store(self, oid: str) -> None:
        if self.command == "PUT":
            digest = hashlib.sha256(self.body).hexdigest()
            if digest != oid:
                self._json({"error": "wrong digest"}, 400)
                return
            self.hub.objects[oid] = self.body
            self._json({})
            return
        data = self.hub.objects[oid]
        if self.hub.spoil:
            data = bytes([data[0] ^ 1]) + data[1:]
        self._send(data, {"ETag": f'"{oid}"'}, large=True)

    def _send(self, data: bytes, headers: dict[str, str], large: bool = False) -> None:
        start, asked = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if asked else 200)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = len(data)
        if large and self.hub.drop_after is not None:
            stop, self.hub.drop_after = start + self.hub.drop_after, None
        for place in range(start, stop, BLOCK):
            self.wfile.write(data[place : min(place + BLOCK, stop)])
            if large and self.hub.bytes_per_second:
                time.sleep(BLOCK / self.hub.bytes_per_second)
        if stop < len(data):
            self.close_connection = True  # hang up in the middle

    # ---- writing --------------------------------------------------------------------------------

    def create(self) -> None:
        asked = json.loads(self.body)
        if not self._known():
            self._refuse(401, "", "Invalid username or password.")
            return
        owner = asked.get("organization") or "somebody"
        key = asked.get("type", "model"), f"{owner}/{asked['name']}"
        url = f"{self.hub.address}/{'spaces/' if key[0] == 'space' else ''}{key[1]}"
        if key in self.hub.repos:
            self._json({"error": "exists", "url": url}, 409)
            return
        self.hub.repos[key] = Repo(private=asked.get("visibility") == "private")
        self.hub.repos[key].commit({})
        self._json({"url": url, "name": key[1], "id": "1"})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        if self._repo(kind.removesuffix("s"), name, write=True) is None:
            return
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._json({"files": modes})

    def lfs_batch(self, prefix: str, name: str) -> None:
        if self._repo(TYPES[prefix or ""], name, write=True) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            if wanted["oid"] not in self.hub.objects:
                upload = {"href": f"{self.hub.store}/{wanted['oid']}"}
                verify = {"href": f"{self.hub.address}/verify/{wanted['oid']}"}
                wanted["actions"] = {"upload": upload, "verify": verify}
            objects.append(wanted)
        self._json({"transfer": "basic", "objects": objects})

    def verify(self, oid: str) -> None:
        size = json.loads(self.body)["size"]
        good = len(self.hub.objects.get(oid, b"")) == size
        self._json({}, 200 if good else 404)

    def commit(self, kind: str, name: str, revision: str) -> None:
        repo = self._repo(kind.removesuffix("s"), name, write=True)
        if repo is None:
            return
        changes: dict[str, Stored | None] = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                changes[value["path"]] = Stored(base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                changes[value["path"]] = Stored(self.hub.objects[value["oid"]], True)
            elif item["key"] == "deletedFile":
                changes[value["path"]] = None
        commit = repo.commit(changes)
        prefix = "spaces/" if kind == "spaces" else ""
        url = f"{self.hub.address}/{prefix}{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit, "success": True})

    def tree(self, kind: str, name: str, revision: str) -> None:
        repo = self._repo(kind.removesuffix("s"), name)
        found = self._commit(repo, revision) if repo else None
        if found:
            self._json(
                [
                    {"type": "file", "path": p, "size": len(f.data), "oid": f.etag[:40]}
                    for p, f in found[1].items()
                ]
            )

    def variables(self, name: str) -> None:
        repo = self._repo("space", name, write=True)
        if repo is not None:
            asked = json.loads(self.body)
            repo.variables[asked["key"]] = asked["value"]
            self._json({key: {"value": value} for key, value in repo.variables.items()})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        good = text.startswith("---\n")
        problem = [] if good else [{"message": "no metadata"}]
        self._json({"errors": problem, "warnings": []}, 200 if good else 400)


_NAME = r"(?P<name>[^/]+/[^/]+?)"
_KIND = r"/api/(?P<kind>models|spaces)/"
ROUTES = [
    ("GET", rf"{_KIND}{_NAME}", _Handler.info),
    ("GET", rf"{_KIND}{_NAME}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"{_KIND}{_NAME}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"{_KIND}{_NAME}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"{_KIND}{_NAME}/commit/(?P<revision>.+)", _Handler.commit),
    ("POST", rf"/api/spaces/{_NAME}/variables", _Handler.variables),
    ("POST", rf"/(?P<prefix>spaces/)?{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("GET HEAD PUT", r"/store/(?P<oid>[0-9a-f]{64})", _Handler.store),
    ("POST", r"/verify/(?P<oid>[0-9a-f]{64})", _Handler.verify),
    (
        "GET HEAD",
        rf"/(?P<prefix>spaces/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        _Handler.resolve,
    ),
]
