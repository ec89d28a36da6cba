"""A stand-in of the Hugging Face hub's API on loopback: what huggingface_hub sends to upload a model, kept and checked.

It has repositories with branches and commits, storage for large files, and accounts by their tokens. It refuses what the hub
refuses, with its statuses and headers. A process reaches it by HF_ENDPOINT and HF_TOKEN, with HF_HUB_DISABLE_XET=1, since
hf_xet talks to another service; `point_at` does the same for a process that has imported huggingface_hub already.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import yaml

WRITER, READER, FINE_GRAINED = "hf_writer0A1b2C3d", "hf_reader4E5f6G7h", "hf_fine8I9j0K1l"
ACCOUNTS = {WRITER: ("ada", "write"), READER: ("ada", "read"), FINE_GRAINED: ("ada", "fineGrained")}
"""Token -> account and role. ada is a member of the organization `lab`."""
NAMESPACES = ("ada", "lab")
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
DATA_SET_TYPE = re.compile(r"(?:[\w-]+/)?[\w.-]+")


@dataclass
class Commit:
    message: str
    files: dict[str, bytes]
    """All files of the repository after it."""

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr((self.message, sorted(self.files.items()))).encode()).hexdigest()


@dataclass
class Repository:
    private: bool
    branches: dict[str, list[Commit]] = field(
        default_factory=lambda: {"main": [Commit("initial commit", {".gitattributes": ATTRIBUTES})]}
    )

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """Content by name, without what the hub itself puts into every repository."""
        return {name: content for name, content in self.branches[branch][-1].files.items() if name != ".gitattributes"}


@dataclass
class Refused(Exception):
    status: int
    message: str
    code: str | None = None


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    """Content by its SHA-256."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each, in the order of their arrival."""
    broken: Callable[[str, str], int | None] = lambda method, path: None
    """A status to answer a request with in place of what it asks for."""

    def environment(self, token: str | None = WRITER) -> dict[str, str]:
        """For a process that has not imported huggingface_hub yet."""
        common = {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return common | {"NO_PROXY": "127.0.0.1"} | ({} if token is None else {"HF_TOKEN": token})

    # --- what is asked

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> dict[str, Any] | None:
        self.requests.append((method, path))
        if (status := self.broken(method, path)) is not None:
            raise Refused(status, "try again later")
        if method == "PUT" and path.startswith("/storage/"):  # as to S3: the address is the permission
            return self._store(path.removeprefix("/storage/"), body)
        if token is None or token not in ACCOUNTS:
            raise Refused(401, "Invalid credentials in Authorization header")
        user, role = ACCOUNTS[token]
        for pattern, (wanted, handler) in ROUTES.items():
            if wanted == method and (found := re.fullmatch(pattern, path)):
                names = [unquote(part) for part in found.groups()]
                if names and names[0].count("/") == 1 and not names[0].startswith("api/"):
                    self._check(names[0], role, writes=method == "POST" or path.endswith("/write"))
                return handler(self, *names, body=body, user=user, role=role)
        raise Refused(404, f"no such endpoint: {method} {path}")

    def _check(self, repo_id: str, role: str, *, writes: bool) -> None:
        if repo_id not in self.repositories:
            raise Refused(404, "Repository not found", "RepoNotFound")
        if writes and (role == "read" or repo_id.split("/")[0] not in NAMESPACES):
            raise Refused(403, "you must use a write token to upload to a repository.")

    def _store(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "the content does not have this SHA-256")
        self.large[oid] = body

    def who(self, *, user: str, role: str, **_: Any) -> dict[str, Any]:
        organizations = [{"type": "org", "name": "lab", "roleInOrg": "write"}]
        token = {"displayName": "cluster", "role": role}
        return {"type": "user", "name": user, "orgs": organizations, "auth": {"accessToken": token}}

    def create(self, *, body: bytes, user: str, role: str) -> dict[str, Any]:
        asked = json.loads(body)
        owner = asked.get("organization") or user
        if role == "read" or owner not in NAMESPACES:
            raise Refused(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        repo_id = f"{owner}/{asked['name']}"
        if repo_id in self.repositories:
            there = {"error": "You already created this model repo", "url": f"{self.url}/{repo_id}"}
            raise Refused(409, json.dumps(there))
        private = asked.get("private", False) or asked.get("visibility") == "private"
        self.repositories[repo_id] = Repository(private)
        return {"url": f"{self.url}/{repo_id}", "name": repo_id, "id": repo_id}

    def describe(self, repo_id: str, revision: str = "main", **_: Any) -> dict[str, Any]:
        commit = self._branch(repo_id, revision)[-1]
        siblings = [{"rfilename": name} for name in commit.files]
        private = self.repositories[repo_id].private
        return {"id": repo_id, "modelId": repo_id, "private": private, "sha": commit.sha, "siblings": siblings}

    def may_write(self, repo_id: str, **_: Any) -> dict[str, Any]:
        return {}

    def branch(self, repo_id: str, name: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        branches = self.repositories[repo_id].branches
        if name in branches:
            raise Refused(409, "Reference already exists")
        branches[name] = list(branches["main"])
        return {}

    def validate(self, *, body: bytes, **_: Any) -> dict[str, Any]:
        wrong = wrong_metadata(json.loads(body)["content"])
        if wrong:
            raise Refused(400, json.dumps({"errors": [{"message": one} for one in wrong], "warnings": []}))
        return {"errors": [], "warnings": []}

    def before_upload(self, repo_id: str, revision: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        there = self._branch(repo_id, revision)[-1].files
        answers = []
        for name in (one["path"] for one in json.loads(body)["files"]):
            is_large = name.endswith(".safetensors")
            answer = {"path": name, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            if name in there:
                answer["oid"] = _oid(there[name], is_large=is_large)
            answers.append(answer)
        return {"files": answers}

    def batch(self, repo_id: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        objects = json.loads(body)["objects"]
        for one in objects:
            if one["oid"] not in self.large:
                one["actions"] = {"upload": {"href": f"{self.url}/storage/{one['oid']}", "header": {}}}
        return {"transfer": "basic", "objects": objects}

    def commit(self, repo_id: str, revision: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        branch = self._branch(repo_id, revision)
        files, message = dict(branch[-1].files), None
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large:
                    raise Refused(400, f"the large file {value['path']} was not uploaded")
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise Refused(400, f"unknown operation {line['key']}")
        assert message, "the client sends a header first"
        branch.append(Commit(message, files))
        return {"commitUrl": f"{self.url}/{repo_id}/commit/{branch[-1].sha}", "commitOid": branch[-1].sha}

    def _branch(self, repo_id: str, revision: str) -> list[Commit]:
        branches = self.repositories[repo_id].branches
        if revision not in branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return branches[revision]


def _oid(content: bytes, *, is_large: bool) -> str:
    """The hash by which the client knows a file that is there: of the content, or git's of a blob."""
    if is_large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_ID = r"([^/]+/[^/]+)"
ROUTES: dict[str, tuple[str, Callable[..., Any]]] = {
    "/api/whoami-v2": ("GET", Hub.who),
    "/api/repos/create": ("POST", Hub.create),
    "/api/validate-yaml": ("POST", Hub.validate),
    rf"/api/models/{_ID}": ("GET", Hub.describe),
    rf"/api/models/{_ID}/revision/([^/]+)": ("GET", Hub.describe),
    rf"/api/models/{_ID}/auth-check/write": ("GET", Hub.may_write),
    rf"/api/models/{_ID}/branch/([^/]+)": ("POST", Hub.branch),
    rf"/api/models/{_ID}/preupload/([^/]+)": ("POST", Hub.before_upload),
    rf"/api/models/{_ID}/commit/([^/]+)": ("POST", Hub.commit),
    rf"/{_ID}\.git/info/lfs/objects/batch": ("POST", Hub.batch),
}


def wrong_metadata(card: str) -> list[str]:
    """What the hub would refuse in a card's metadata: of `base_model` and `datasets` all but ids; of `model-index` results
    without a task, a data set or a metric, and types of data sets that could be no id."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    if found is None:
        return ["there is no metadata"]
    metadata = yaml.safe_load(found[1])
    wrong = []
    names = [metadata.get("base_model"), *(metadata.get("datasets") or [])]
    wrong += [f"{name!r} is no id" for name in names if name is not None and not DATA_SET_TYPE.fullmatch(name)]
    for number, result in enumerate(one for index in metadata.get("model-index", []) for one in index["results"]):
        place = f'"model-index[0].results[{number}]'
        if not DATA_SET_TYPE.fullmatch(result["dataset"]["type"]):
            wrong.append(f'{place}.dataset.type" with value "{result["dataset"]["type"]}" fails to match the pattern')
        if not (result["task"]["type"] and result["dataset"]["name"]):
            wrong.append(f"{place} lacks a type or a name")
        wrong += [f"{place}: {one}" for one in result["metrics"] if not {"type", "value"} <= one.keys()]
    return wrong


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # a response in one packet: else each waits 40 ms for the client's acknowledgement
    disable_nagle_algorithm = True

    def _respond(self) -> None:
        body = self._body()
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        status, headers, content = 200, {}, {}
        try:
            path = self.path.partition("?")[0]
            content = self.hub.answer(self.command, path, body, token if scheme == "Bearer" else None) or {}
        except Refused as refusal:
            status = refusal.status
            is_json = refusal.message.startswith("{")
            content = json.loads(refusal.message) if is_json else {"error": refusal.message}
            headers = {} if is_json else {"X-Error-Message": refusal.message}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
        sent = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(sent)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_PUT = _respond

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """A hub without repositories, up until the block is left."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(url: str) -> None:
    """Let huggingface_hub, which reads its environment when it is imported, use the hub at this address from now on."""
    from huggingface_hub import constants

    constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = url, False, True
