"""A small Hub on this machine stands in for the real one."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as settings
import pytest
import torch

from kokoro_coreml.checkpoint import hub, load_checkpoint
from kokoro_coreml.errors import CheckpointError, NetworkError, VoiceError
from kokoro_coreml.voices import load_voice
from tests.checkpoint.conftest import Recorder

COMMIT = "f3ff3571791e39611d31c381e3a41a3af07b4987"
SECONDS = 8.0
"""The Hub's own client needs 23 s to give up."""

REPO = "hexgrad/Kokoro-82M"


class FakeHub:
    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.status: int | None = None
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.hub.requests.append(self.path)
        path = self.path.split("?")[0].strip("/").split("/")
        api = path[:2] == ["api", "models"]
        repo = "/".join(path[2:4] if api else path[:2])
        files = self.hub.files.get(repo)
        if self.hub.status is not None:
            self._send(self.hub.status, b"", {}, body)
        elif files is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        elif api:
            tree = [
                {"type": "file", "path": n, "size": len(d), "oid": "0" * 40}
                for n, d in files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
        elif (name := "/".join(path[4:])) not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            self._send(404, b"", headers, body)
        else:
            etag = hashlib.sha256(files[name]).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
            self._send(200, files[name], headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


def point_at(monkeypatch: pytest.MonkeyPatch, port: int, cache: Path) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(settings, "ENDPOINT", endpoint)
    monkeypatch.setattr(settings, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(settings, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    fake = FakeHub()
    handler = type("Bound", (Handler,), {"hub": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        point_at(monkeypatch, http.server_address[1], tmp_path / "hub")
        yield fake
        http.shutdown()


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    point_at(monkeypatch, port, tmp_path / "hub")


@pytest.fixture
def tiny_files(tiny_folder: Path) -> dict[str, bytes]:
    return {
        "config.json": (tiny_folder / "config.json").read_bytes(),
        "kokoro-v1_0.pth": (tiny_folder / "tiny.pth").read_bytes(),
        "README.md": b"---\nlicense: mit\n---\n# tiny\n",
    }


@pytest.mark.usefixtures("unplugged")
def test_no_hub_is_a_network_error_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"cannot be reached.*'packaged', or a folder"):
        load_checkpoint(f"{REPO}@{COMMIT}")
    assert time.monotonic() - started < SECONDS


@pytest.mark.usefixtures("unplugged")
def test_the_fallback_is_used_said_and_recorded(tiny_folder: Path, recorder: Recorder) -> None:
    loaded = load_checkpoint(
        REPO,
        revision=COMMIT,
        fallback=str(tiny_folder),
        sha256={"config.json": "0" * 64},
        reporter=recorder,
    )
    assert loaded.provenance.fallback_from == f"{REPO}@{COMMIT}"
    assert loaded.provenance.location == "tiny.pth"
    assert len(recorder.warnings) == 1
    assert "cannot be reached" in recorder.warnings[0]


@pytest.mark.usefixtures("unplugged")
def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="not in the local cache"):
        hub.fetch(REPO, "config.json")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_out_of_order_is_a_network_error(server: FakeHub, status: int) -> None:
    server.status = status
    started = time.monotonic()
    with pytest.raises(NetworkError):
        load_checkpoint(REPO)
    assert time.monotonic() - started < SECONDS


def test_a_repository_loads_with_commit_licence_and_digests(
    server: FakeHub, tiny_files: dict[str, bytes]
) -> None:
    server.files[REPO] = tiny_files
    pins = {
        n: hashlib.sha256(tiny_files[n]).hexdigest() for n in ("config.json", "kokoro-v1_0.pth")
    }
    loaded = load_checkpoint(REPO, sha256=pins)
    provenance = loaded.provenance
    assert (provenance.source, provenance.location) == ("hub", REPO)
    assert (provenance.revision, provenance.license) == (COMMIT, "MIT")
    assert provenance.files == pins
    assert provenance.fallback_from is None


def test_a_cached_commit_needs_no_hub(
    server: FakeHub, tiny_files: dict[str, bytes], recorder: Recorder
) -> None:
    server.files[REPO] = tiny_files
    load_checkpoint(REPO)
    server.status = 503
    server.requests.clear()
    pinned = load_checkpoint(f"{REPO}@{COMMIT}", reporter=recorder)
    assert pinned.provenance.license == "MIT"
    assert server.requests == []
    assert recorder.warnings == []
    moving = load_checkpoint(REPO, reporter=recorder)
    assert moving.provenance.revision == COMMIT
    assert any(f"cached at commit {COMMIT}" in warning for warning in recorder.warnings)


def test_a_file_that_is_not_the_pinned_one_never_falls_back(
    server: FakeHub, tiny_files: dict[str, bytes], recorder: Recorder
) -> None:
    server.files[REPO] = tiny_files | {"kokoro-v1_0.pth": b"something else"}
    with pytest.raises(CheckpointError, match=r"kokoro-v1_0\.pth: SHA-256 is .*expected 496d") as e:
        load_checkpoint(
            REPO, sha256={"kokoro-v1_0.pth": "496d" * 16}, fallback="packaged", reporter=recorder
        )
    assert not isinstance(e.value, NetworkError)
    assert recorder.warnings == []


@pytest.mark.parametrize("missing", ["repository", "file"])
def test_what_does_not_exist_never_falls_back(
    server: FakeHub, tiny_files: dict[str, bytes], missing: str
) -> None:
    if missing == "file":
        server.files[REPO] = {"config.json": tiny_files["config.json"]}
    wanted = "holds no file 'kokoro" if missing == "file" else "no such model repository"
    with pytest.raises(CheckpointError, match=wanted) as error:
        load_checkpoint(REPO, fallback="packaged")
    assert not isinstance(error.value, NetworkError)


def test_another_repository_has_its_only_weights_taken(
    server: FakeHub, tiny_files: dict[str, bytes]
) -> None:
    files = {"config.json": tiny_files["config.json"], "w.pth": tiny_files["kokoro-v1_0.pth"]}
    server.files["someone/fine-tune"] = files | {"voices/a.pth": b"not at the top"}
    loaded = load_checkpoint("someone/fine-tune")
    assert set(loaded.provenance.files) == {"config.json", "w.pth"}
    assert loaded.provenance.license == "unknown"


@pytest.mark.parametrize(
    ("names", "said"), [(("a.pth", "b.safetensors"), r"several \(a\.pth, b\."), ((), "none among")]
)
def test_weights_that_cannot_be_chosen_are_listed(
    server: FakeHub, tiny_files: dict[str, bytes], names: tuple[str, ...], said: str
) -> None:
    config = {"config.json": tiny_files["config.json"]}
    server.files["someone/fine-tune"] = config | dict.fromkeys(names, b"x")
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint("someone/fine-tune")


def test_a_voice_comes_from_the_hub_and_is_pinned(server: FakeHub, tmp_path: Path) -> None:
    torch.save(torch.rand(510, 1, 256), tmp_path / "v.pt")
    data = (tmp_path / "v.pt").read_bytes()
    server.files[REPO] = {"voices/zf_xiaobei.pt": data}
    pins = {"voices/zf_xiaobei.pt": hashlib.sha256(data).hexdigest()}
    voice = load_voice("zf_xiaobei", hub=REPO, revision=COMMIT, sha256=pins)
    assert (voice.name, voice.license) == ("zf_xiaobei", "Apache-2.0")
    with pytest.raises(VoiceError, match=r"SHA-256 .* expected 0000"):
        load_voice("zf_xiaobei", hub=REPO, sha256={"voices/zf_xiaobei.pt": "0" * 64})
    with pytest.raises(VoiceError, match=r"af_heart.*in hexgrad/Kokoro-82M: zf_xiaobei"):
        load_voice("nobody", hub=REPO)


@pytest.mark.usefixtures("unplugged")
def test_a_voice_that_needs_the_hub_says_so_and_lists_what_is_here() -> None:
    with pytest.raises(NetworkError, match=r"cannot be reached.*available here: af_heart"):
        load_voice("zf_xiaobei", hub=REPO)
