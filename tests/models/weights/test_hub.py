"""The Hugging Face hub without the internet: a local server as the hub, and the client's real cache."""

import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from peers import of_authors, timm_micro
from safetensors.torch import save

from volo.cli import main
from volo.models import WEIGHTS, create_model, load_model
from volo.models.weights import hub, published
from volo.models.weights.hub import cached, fetch, fetch_url

REPO = "someone/volo_micro"
NAME = "volo_micro_32"
COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class Hub:
    """The files of a hub, (repository, commit, file) → content, and the requests that it got."""

    def __init__(self):
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.private: set[str] = set()
        self.broken: set[str] = set()
        self.commits = COMMITS


def handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self):
            hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
            if self.path.startswith("/plain/"):
                return self.send(200, {}, hub.files.get(("plain", "", self.path.rpartition("/")[2]), b""))
            org, name, _, revision, *file = self.path.strip("/").split("/")
            repo, file = f"{org}/{name}", "/".join(file)
            if repo in hub.private and self.headers.get("Authorization") != "Bearer secret":
                return self.send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"")
            if not any(known == repo for known, _, _ in hub.files):
                return self.send(404, {"X-Error-Code": "RepoNotFound"}, b"")
            commit = hub.commits.get(revision, revision)
            if not any(known[:2] == (repo, commit) for known in hub.files):
                return self.send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            content = hub.files.get((repo, commit, file))
            if content is None:
                return self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"")
            # Large files go by their SHA-256, the others by a hash of Git's.
            large = file.endswith((".safetensors", ".bin"))
            digest = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
            return self.send(200, {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}, content)

        def send(self, status, headers, content):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[: len(content) // 2] if self.path in hub.broken else content)

        do_GET = do_HEAD = answer

    return Handler


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Start a local hub that the client uses as the hub, with an empty cache."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    hub.address = address
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    yield hub
    server.shutdown()
    server.server_close()


def serve(hub: Hub, peer, *, repo=REPO, commit="main", file="model.safetensors"):
    if file.endswith(".bin"):
        buffer = io.BytesIO()
        torch.save(peer.state_dict(), buffer)
        content = buffer.getvalue()
    else:
        content = save(peer.state_dict())
    hub.files[repo, COMMITS[commit], file] = content
    settings = {"input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic"}
    described = {"architecture": "x", "num_classes": 10, "pretrained_cfg": settings}
    hub.files[repo, COMMITS[commit], "config.json"] = json.dumps(described).encode()


def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def assert_same(model, peer):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), peer(x), atol=2e-5, rtol=0)


def test_a_repository_is_downloaded_once_and_then_loads_offline(served, monkeypatch):
    peer = timm_micro()
    serve(served, peer)
    assert not cached(REPO)
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), peer)
    assert cached(REPO)
    assert sum(what == "GET" and path.endswith(".safetensors") for what, path, _ in served.asked) == 1
    offline(monkeypatch)
    asked = len(served.asked)
    trained = load_model(f"hf-hub:{REPO}")
    assert_same(trained.model, peer)
    assert trained.preprocessing["crop_pct"] == 0.9
    assert len(served.asked) == asked


def test_a_revision_is_pinned(served, monkeypatch):
    peers = {"main": timm_micro(seed=1), "v1": timm_micro(seed=2)}
    for commit, peer in peers.items():
        serve(served, peer, commit=commit)
    for commit in ("v1", "b" * 40):
        assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}@{commit}"), peers["v1"])
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), peers["main"])
    offline(monkeypatch)
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}@v1"), peers["v1"])
    with pytest.raises(ValueError, match=f"{REPO}@v9 is not in the cache"):
        fetch(REPO, revision="v9")


def test_the_cache_is_used_until_a_refresh(served):
    old, new = timm_micro(seed=1), timm_micro(seed=2)
    serve(served, old)
    fetch(REPO)
    served.files.clear()
    serve(served, new, commit="v1")
    served.files = {(repo, "c" * 40, file): content for (repo, _, file), content in served.files.items()}
    served.commits = {"main": "c" * 40}
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), old)
    assert main(["weights", "fetch", f"hf-hub:{REPO}"]) == 0
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), new)
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}@{COMMITS['main']}"), old)


def test_a_repository_with_an_old_pytorch_file_and_no_description_loads(served, monkeypatch):
    peer = timm_micro()
    serve(served, peer, file="pytorch_model.bin")
    del served.files[REPO, COMMITS["main"], "config.json"]
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), peer)
    offline(monkeypatch)
    assert_same(load_model(f"hf-hub:{REPO}").model, peer)


def test_a_published_name_means_its_repository(served, monkeypatch):
    row = published.PublishedWeights(
        model=NAME, file="x", crop_pct=0.5, gmacs=1, authors_top1=1, top1=1, real_top1=1, v2_top1=1, tag="test"
    )
    monkeypatch.setitem(WEIGHTS, row.name, row)
    peer = timm_micro()
    serve(served, peer, repo="timm/volo_micro_32.test")
    for name in (NAME, f"{NAME}.test", "volo_micro"):
        assert_same(create_model(name, pretrained=True), peer)
    assert_same(load_model(f"{NAME}.test").model, peer)
    assert main(["weights", "fetch", NAME]) == 0


def test_uncached_weights_while_offline_are_one_line_with_two_solutions(served, monkeypatch, capsys):
    offline(monkeypatch)
    for arguments in (["weights", "fetch", "volo_d1_224"], ["weights", "inspect", "volo_d1_224.sail_in1k"]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert "timm/volo_d1_224.sail_in1k is not in the cache" in said
        assert "HF_HUB_OFFLINE is set" in said
        assert "go online and run `volo weights download hf-hub:timm/volo_d1_224.sail_in1k`" in said
        assert "or give a local file" in said
    assert not served.asked


@pytest.mark.slow  # the client tries for 20 seconds
def test_an_unreachable_hub_is_the_same_error(served, monkeypatch):
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"is not in the cache .* and the hub cannot be reached: go online"):
        fetch(REPO)


def test_a_token_opens_a_private_repository(served, monkeypatch):
    peer = timm_micro()
    serve(served, peer)
    served.private.add(REPO)
    with pytest.raises(ValueError, match=f"{REPO} does not exist on the hub, or is private: set HF_TOKEN"):
        fetch(REPO)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert_same(create_model(NAME, pretrained=f"hf-hub:{REPO}"), peer)


def test_a_file_whose_hash_differs_from_the_hubs_is_an_error(served, capsys):
    serve(served, timm_micro())
    path = fetch(REPO) / "model.safetensors"
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert main(["weights", "fetch", f"hf-hub:{REPO}"]) == 2
    said = capsys.readouterr().err
    assert "is damaged: its SHA-256 is not the hub's; delete" in said
    assert str(blob) in said
    with pytest.raises(ValueError, match="is damaged"):
        create_model(NAME, pretrained=f"hf-hub:{REPO}")


def test_missing_repositories_revisions_and_files_are_errors(served):
    serve(served, timm_micro())
    with pytest.raises(ValueError, match="someone/else does not exist on the hub"):
        fetch("someone/else")
    with pytest.raises(ValueError, match=f"{REPO} has no revision 'v1'"):
        fetch(REPO, revision="v1")
    with pytest.raises(ValueError, match="'a/b/c' is not a repository name; give hf-hub:org/name"):
        fetch("a/b/c")
    del served.files[REPO, COMMITS["main"], "model.safetensors"]
    with pytest.raises(ValueError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        fetch(REPO)


# Web addresses


def test_a_url_is_downloaded_once(served, tmp_path, monkeypatch):
    peer = timm_micro()
    torch.save(of_authors(peer), tmp_path / "d1.pth.tar")
    served.files["plain", "", "d1_224_84.2.pth.tar"] = (tmp_path / "d1.pth.tar").read_bytes()
    url = f"{served.address}/plain/volo_1/d1_224_84.2.pth.tar"
    assert_same(create_model(NAME, pretrained=url), peer)
    offline(monkeypatch)
    assert_same(create_model(NAME, pretrained=url), peer)
    assert len(served.asked) == 1
    with pytest.raises(ValueError, match="is not in the cache and HF_HUB_OFFLINE is set"):
        fetch_url(f"{served.address}/plain/other/d1_224_84.2.pth.tar")


def test_a_url_with_a_wrong_hash_or_without_an_answer_is_an_error(served, tmp_path):
    served.files["plain", "", "x-0123456789.pth"] = b"hello"
    with pytest.raises(ValueError, match=r"x-0123456789\.pth is damaged: its SHA-256 does not begin with 0123"):
        fetch_url(f"{served.address}/plain/x-0123456789.pth")
    with pytest.raises(ValueError, match=r"cannot be downloaded .*404.*; download it elsewhere and give the file"):
        fetch_url(f"{served.address}/none/at/all/x.pth")
    assert not list((tmp_path / "torch").rglob("*.pth"))


@pytest.mark.usefixtures("served")
def test_a_url_that_ends_in_a_short_number_has_no_hash(tmp_path):
    torch.save(timm_micro().state_dict(), tmp_path / "volo-micro-32.pth")
    create_model(NAME, pretrained=(tmp_path / "volo-micro-32.pth").as_uri())


def test_a_connection_that_breaks_leaves_nothing_in_the_cache(served, tmp_path):
    served.files["plain", "", "broken.pth"] = b"x" * 100
    served.broken.add("/plain/broken.pth")
    with pytest.raises(
        ValueError, match=r"broken\.pth cannot be downloaded \(the connection ended after 50 of 100 bytes"
    ):
        fetch_url(f"{served.address}/plain/broken.pth")
    assert not list(tmp_path.rglob("*broken.pth*"))


def test_every_published_file_has_its_size_in_its_name():
    for row in WEIGHTS.values():
        size, pixels = row.file.split("_")[:2]
        assert row.model == f"volo_{size}_{pixels}"
        assert row.size == int(pixels)
        assert row.url.startswith("https://github.com/sail-sg/volo/releases/download/volo_1/d")
        assert abs(row.authors_top1 - row.top1) < 0.25
    assert len(WEIGHTS) == 11
    assert hub.constants is huggingface_hub.constants
