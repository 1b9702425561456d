"""A stub of the Hugging Face Hub on the loopback interface, for the real clients: they find it through HF_ENDPOINT.

It answers what huggingface_hub and datasets ask when they look for a repository, list it, download from it and push to
it (over plain LFS: HF_HUB_DISABLE_XET=1), with the headers and the error codes of the real one:
a missing repository is a 401 to a stranger, a gated one shows its
description to everybody and its files to those with a token. HF_ENDPOINT is read when the clients are imported, so
tests use it from child processes.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

GATED_TOKEN = "hf_stub_may_read_gated"
WRITE_TOKEN = "hf_stubMayWriteEverything0123456789abcd"  # looks like a real one, so that what looks for tokens finds it


# What a network's own page, a proxy or another program answers in the Hub's place.
FOREIGN = {
    "sign-in": b"<html><body>Please sign in to this network</body></html>",
    "empty": b"",
    "a list": b"[]",
    "a text": b'"hello"',
    "no commit": b'{"id": "someone/else"}',
    "not UTF-8": b"\xff\xfe{}",
}


@dataclass
class Repo:
    """One repository at one commit."""

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    fault: str = ""  # "500": the Hub fails over it; "drop": it hangs up; a key of FOREIGN: something else answers

    @property
    def sha(self) -> str:
        digest = hashlib.sha1()
        for name in sorted(self.files):
            digest.update(name.encode() + hashlib.sha1(self.files[name]).digest())
        return digest.hexdigest()

    def entry(self, name: str) -> dict:
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": etag(self.files[name])}


def etag(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class HubStub:
    """`with HubStub() as hub:` serves; `hub.requests` lists "METHOD /path" of everything that was asked."""

    models: dict[str, Repo] = field(default_factory=dict)
    datasets: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    # Faults of a push, by what fails, each with how often: "create", "preupload", "lfs", "commit", "answer" (the commit
    # is made and its answer lost), "half" (the commit loses a file).
    faults: dict[str, int] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict] = field(default_factory=list)

    def fails(self, what: str) -> bool:
        left = self.faults.get(what, 0)
        self.faults[what] = left - 1
        return left > 0

    def __enter__(self) -> "HubStub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self, part: str) -> list[str]:
        return [r for r in self.requests if part in r]


class _Refused(Exception):
    content = b'{"error": "refused"}'

    def __init__(self, status: int, code: str, message: str, **headers: str):
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message, **headers}


class _Foreign(_Refused):
    """Something else answers."""

    def __init__(self, fault: str):
        self.status, self.content, self.headers = 200, FOREIGN[fault], {"Content-Type": "text/html"}


class _Handler(BaseHTTPRequestHandler):
    hub: HubStub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(p) for p in url.path.split("/") if p]
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        content = self._body()
        body = content.decode(errors="replace")
        try:
            if not parts:
                self._send(200, b"ok")
            elif parts[0] == "lfs" and self.command == "PUT":
                self._store(parts[1], content)
            elif parts[-2:] == ["objects", "batch"]:
                self._lfs_batch(json.loads(body))
            elif parts[:2] == ["api", "validate-yaml"]:
                self._validate_card(json.loads(body))
            elif parts[:3] == ["api", "repos", "create"]:
                self._create(json.loads(body))
            elif parts[:2] == ["api", "models"] and parts[4:5] == ["preupload"]:
                self._preupload(json.loads(body))
            elif parts[:2] == ["api", "models"] and parts[4:5] == ["commit"]:
                self._commit(f"{parts[2]}/{parts[3]}", body)
            elif parts[0] == "api" and len(parts) >= 3:
                self._api(parts[1], parts[2:], parse_qs(url.query), body)
            elif "resolve" in parts:
                self._resolve(parts)
            else:
                raise _Refused(404, "", "Not Found")
        except ConnectionAbortedError:
            self.close_connection = True
        except _Refused as refused:
            self._send(refused.status, refused.content, refused.headers)

    # ---- pushing

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _require_writer(self, fault: str) -> None:
        if self.headers.get("Authorization", "") != f"Bearer {WRITE_TOKEN}":
            raise _Refused(403, "", "You don't have the rights to write here.")
        if self.hub.fails(fault):
            raise _Refused(503, "", "Service Unavailable")

    def _create(self, asked: dict) -> None:
        self._require_writer("create")
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.models:
            raise _Refused(409, "", "You already created this model repo")
        private = asked.get("private", asked.get("visibility") == "private")
        self.hub.models[name] = Repo({".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def _validate_card(self, asked: dict) -> None:
        """As the Hub does: the metadata has to be YAML, and model-index results have to name what was measured."""
        import yaml

        try:
            found = yaml.safe_load(asked["content"].split("---")[1])
            for result in [r for entry in found.get("model-index", []) for r in entry["results"]]:
                assert result["task"]["type"]
                assert result["dataset"]["type"]
                assert result["dataset"]["name"]
                assert all("type" in m and "value" in m for m in result["metrics"])
        except (yaml.YAMLError, KeyError, AssertionError, TypeError) as error:
            answer = json.dumps({"errors": [{"message": repr(error)}], "warnings": []}).encode()
            self._send(400, answer, {"Content-Type": "application/json"})
            return
        self._json({"errors": [], "warnings": []})

    def _preupload(self, asked: dict) -> None:
        self._require_writer("preupload")
        large = (".safetensors", ".png")
        modes = {f["path"]: "lfs" if f["path"].endswith(large) else "regular" for f in asked["files"]}
        files = [{"path": p, "uploadMode": mode, "shouldIgnore": False, "oid": None} for p, mode in modes.items()]
        self._json({"files": files})

    def _lfs_batch(self, asked: dict) -> None:
        self._require_writer("batch")
        upload = f"{self.hub.endpoint}/lfs/"
        objects = [{**o, "actions": {"upload": {"href": upload + o["oid"]}}} for o in asked["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str, content: bytes) -> None:
        if self.hub.fails("lfs"):
            raise _Refused(503, "", "Slow Down")
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.lfs[oid] = content
        self._send(200, b"")

    def _commit(self, name: str, body: str) -> None:
        self._require_writer("commit")
        lines = [json.loads(line) for line in body.splitlines() if line]
        head = next(line["value"] for line in lines if line["key"] == "header")
        repo = self.hub.models[name]
        if head.get("parentCommit") not in (None, repo.sha):
            raise _Refused(412, "", "A commit has happened since.")
        files = dict(repo.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"])
        if self.hub.fails("half"):
            files.pop("adapter_model.safetensors")
        repo.files = files
        self.hub.commits.append(head)
        if self.hub.fails("answer"):
            raise ConnectionAbortedError
        commit = {"commitOid": repo.sha, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{repo.sha}"}
        self._json({"success": True, **commit})

    # ---- looking and downloading

    def _find(self, kind: str, name: str, revision: str = "main", *, files: bool) -> Repo:
        repo = (self.hub.datasets if kind == "datasets" else self.hub.models).get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.private and token != WRITE_TOKEN):
            if token:
                raise _Refused(404, "RepoNotFound", "Repository not found")
            raise _Refused(401, "", "Invalid username or password.")
        if repo.fault == "drop":
            raise ConnectionAbortedError
        if repo.fault in FOREIGN:
            raise _Foreign(repo.fault)
        if repo.fault:
            raise _Refused(int(repo.fault), "", "Internal Error")
        if files and repo.gated and token != GATED_TOKEN:
            raise _Refused(403 if token else 401, "GatedRepo", f"Access to {kind} {name} is restricted.")
        if revision not in ("main", repo.sha):
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo

    def _api(self, kind: str, rest: list[str], query: dict[str, list[str]], body: str) -> None:
        """rest is [owner, name] or [owner, name, what, revision, path...]."""
        name, what, revision = "/".join(rest[:2]), (rest[2:3] or [""])[0], (rest[3:4] or ["main"])[0]
        if kind not in ("models", "datasets"):
            raise _Refused(404, "", "Not Found")
        repo = self._find(kind, name, revision, files=what in ("tree", "paths-info", "auth-check"))
        if what == "auth-check":
            self._json({})
        elif what in ("", "revision"):
            self._json(
                {
                    "id": name,
                    "sha": repo.sha,
                    "private": repo.private,
                    "gated": "manual" if repo.gated else False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "createdAt": "2024-01-01T00:00:00.000Z",
                    "lastModified": "2024-01-01T00:00:00.000Z",
                    "siblings": [{"rfilename": f, "size": len(c)} for f, c in repo.files.items()],
                }
            )
        elif what == "tree":
            if rest[4:]:
                raise _Refused(404, "EntryNotFound", "no folders here")
            self._json([repo.entry(f) for f in repo.files])
        elif what == "paths-info":
            wanted = parse_qs(body).get("paths", [])
            self._json([repo.entry(f) for f in wanted if f in repo.files])
        else:
            raise _Refused(404, "", "Not Found")

    def _resolve(self, parts: list[str]) -> None:
        kind = "datasets" if parts[0] == "datasets" else "models"
        at = parts.index("resolve")
        name, revision, file = "/".join(parts[at - 2 : at]), parts[at + 1], "/".join(parts[at + 2 :])
        repo = self._find(kind, name, revision, files=True)
        commit = {"X-Repo-Commit": repo.sha}
        if file not in repo.files:
            raise _Refused(404, "EntryNotFound", "Entry not found", **commit)
        content = repo.files[file]
        headers = {**commit, "ETag": f'"{etag(content)}"', "Accept-Ranges": "bytes"}
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first:
            self._send(200, content, headers)
            return
        end = min(int(last) if last else len(content) - 1, len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        self._send(206, content[int(first) : end + 1], headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


# Not by the libraries' own ends, in which a thread that is still there aborts the process once in thousands of times.
LEAVE = "import os, sys; sys.stdout.flush(); os._exit(0)"


def answered(endpoint: str, script: str, *words: str, given: str = "", **environment: str) -> Any:
    """What a script prints as JSON in a Python of its own, for which the Hub is at this address."""
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\n{LEAVE}", *words],
        input=given,
        env={**os.environ, "HF_ENDPOINT": endpoint, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
