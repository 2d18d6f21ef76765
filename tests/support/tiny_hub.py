"""A Hugging Face hub on this machine, to which the real client talks."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def running_hub(monkeypatch, cache):
    """Let the client talk to a new hub, and keep what it fetches in ``cache``."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + template[template.index("/{") :])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Hub(ThreadingHTTPServer):
    """Takes one repository, me/NAME, as the real hub's client sends it, and gives its files.

    Attributes:
        files: name → content, after a commit. seen: what came with it. refuses: the status of every answer, if any.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.seen: dict[str, object] = {}
        self.refuses: int | None = None
        self.repository = ""


class HubHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub, action = self.server, re.sub(r"^/api/(models/me/\w+/)?", "", self.path).partition("?")[0]
        if hub.refuses:
            return self.answer(b"", status=hub.refuses)
        if action == "repos/create":
            hub.seen.update(json.loads(body), token=self.headers["Authorization"])
            hub.repository = f"{hub.seen['organization']}/{hub.seen['name']}"
            return self.answer({"url": f"{hub.address}/{hub.repository}"})
        if action == "validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if action == "preupload/main":
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self.answer({"files": files})
        assert action == "commit/main", action
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                hub.seen["message"] = line["value"]["summary"]
            else:
                hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(
            {"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.address}/{hub.repository}/commit/{COMMIT}"}
        )

    def do_GET(self):
        repository, _, name = self.path.rpartition("/resolve/")
        content = self.server.files.get(name.partition("/")[2]) if repository == f"/{self.server.repository}" else None
        self.answer(b"" if content is None else content, status=404 if content is None else 200)

    do_HEAD = do_GET

    def answer(self, content, status=200):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass
