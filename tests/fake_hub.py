"""A hub on this machine: the part of the HTTP interface that uploads and downloads of `huggingface_hub` use.

Repositories live in memory. Files of weights travel as with the hub: their hash is announced, their bytes are sent to
another address, and the commit names the hash.
"""

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_fake"
LARGE = (".safetensors", ".zip", ".onnx", ".gz")  # stored by hash
KINDS = {"models": "model", "spaces": "space", "datasets": "dataset"}


class FakeHub:
    """Server of repositories in memory.

    Attributes:
        repos: (kind, "owner/name") -> path -> content.
        large: SHA-256 -> content that was sent by hash.
        log: Method and path of every request.
        endpoint: URL, the value of the environment variable HF_ENDPOINT.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.commits: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.large: dict[str, bytes] = {}
        self.log: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "FakeHub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def create(self, kind: str, name: str) -> None:
        """Make an empty repository, or keep the one that exists."""
        self.repos.setdefault((kind, name), {})
        if not self.commits[kind, name]:
            self._record(kind, name)

    def commit(self, kind: str, name: str, lines: list[dict]) -> str:
        """Apply the operations of a commit and return its id."""
        files = self.repos[kind, name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return self._record(kind, name)

    def _record(self, kind: str, name: str) -> str:
        number = hashlib.sha1(f"{kind} {name} {len(self.commits[kind, name])}".encode()).hexdigest()
        self.commits[kind, name].append(number)
        return number


class _Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Stay silent; `FakeHub.log` has the requests."""

    def do_HEAD(self):
        self._route()

    def do_GET(self):
        self._route()

    def do_POST(self):
        self._route()

    def do_PUT(self):
        self._route()

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append(f"{self.command} {path}")
        body = self._body()
        for pattern, action in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                if self.command in ("POST", "GET") and "/api/" in path and not self._knows_the_token():
                    return self._json({"error": "Invalid token"}, 401)
                return action(self, body, **found.groupdict())
        return self._json({"error": f"the fake hub has no {self.command} {path}"}, 404)

    def _knows_the_token(self) -> bool:
        return self.command == "GET" or self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _body(self) -> bytes:
        """The whole body, which is sent in chunks when its length is not known."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, answer: dict | list, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(answer).encode(), status, **{"Content-Type": "application/json"}, **headers)

    def _send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        self.hub.create(kind, name)
        prefix = "" if kind == "model" else f"{kind}s/"
        self._json({"url": f"{self.hub.endpoint}/{prefix}{name}"})

    def validate(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, body: bytes, kinds: str, name: str) -> None:
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = ["lfs" if path.endswith(LARGE) else "regular" for path in paths]
        rows = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in zip(paths, modes, strict=True)]
        self._json({"files": rows})

    def announce(self, body: bytes, name: str) -> None:
        rows = []
        for wanted in json.loads(body)["objects"]:
            row = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large:
                row["actions"] = {"upload": {"href": f"{self.hub.endpoint}/large/{wanted['oid']}"}}
            rows.append(row)
        self._json({"transfer": "basic", "objects": rows})

    def upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json({"error": "the content has another hash"}, 422)
        self.hub.large[oid] = body
        return self._json({})

    def commit(self, body: bytes, kinds: str, name: str) -> None:
        number = self.hub.commit(KINDS[kinds], name, [json.loads(line) for line in body.splitlines()])
        url = f"{self.hub.endpoint}/{name}/commit/{number}"
        self._json({"success": True, "commitOid": number, "commitUrl": url})

    def info(self, body: bytes, kinds: str, name: str) -> None:
        key = (KINDS[kinds], name)
        if key not in self.hub.repos:
            return self._missing("RepoNotFound")
        files = [{"rfilename": path} for path in sorted(self.hub.repos[key])]
        answer = {"_id": "1", "id": name, "modelId": name, "private": False, "tags": [], "downloads": 0, "likes": 0}
        return self._json({**answer, "sha": self.hub.commits[key][-1], "siblings": files})

    def tree(self, body: bytes, kinds: str, name: str) -> None:
        files = self.hub.repos[KINDS[kinds], name]
        rows = [
            {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for p, c in files.items()
        ]
        self._json(rows)

    def file(self, body: bytes, name: str, path: str, prefix: str = "") -> None:
        key = ({"spaces/": "space", "datasets/": "dataset"}.get(prefix or "", "model"), name)
        if key not in self.hub.repos:
            return self._missing("RepoNotFound")
        content = self.hub.repos[key].get(path)
        if content is None:
            return self._missing("EntryNotFound", self.hub.commits[key][-1])
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._send(content, ETag=etag, **{"X-Repo-Commit": self.hub.commits[key][-1]})

    def _missing(self, code: str, commit: str = "") -> None:
        self._json({"error": code}, 404, **{"X-Error-Code": code, "X-Repo-Commit": commit})


REPO = r"(?P<name>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kinds>models|spaces|datasets)/{REPO}"
ROUTES = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST {API}/preupload/main", _Handler.preupload),
    (rf"POST /(?:spaces/|datasets/)?{REPO}\.git/info/lfs/objects/batch", _Handler.announce),
    (r"PUT /large/(?P<oid>\w{64})", _Handler.upload),
    (rf"POST {API}/commit/main", _Handler.commit),
    (rf"GET {API}(?:/revision/\w+)?", _Handler.info),
    (rf"GET {API}/tree/\w+", _Handler.tree),
    (rf"(?:HEAD|GET) /(?P<prefix>spaces/|datasets/)?{REPO}/resolve/\w+/(?P<path>.+)", _Handler.file),
]
