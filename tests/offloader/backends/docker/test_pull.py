"""Images that are missing are pulled, with the credentials of the Docker configuration: a real engine and a
registry of a few lines (OCI distribution specification, pull)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from offloader.errors import BackendError

pytestmark = pytest.mark.slow

USER, PASSWORD = "puller", "s3cret-password"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Holds one image under every name; wants a password."""

    def __init__(self) -> None:
        layer_tar = io.BytesIO()
        with tarfile.open(fileobj=layer_tar, mode="w") as tar:
            member = tarfile.TarInfo("file")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
        layer = gzip.compress(layer_tar.getvalue())
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"calls-native-offloader.job-contract": "1"}},
                "rootfs": {"type": "layers", "diff_ids": [digest(layer_tar.getvalue())]},
            }
        ).encode()
        self.blobs = {digest(layer): layer, digest(config): config}
        layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": entry("application/vnd.docker.container.image.v1+json", config),
                "layers": [entry(layer_type, layer)],
            }
        ).encode()
        self.wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.manifests_asked = self.manifests_served = 0
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self, body=True)

            def do_HEAD(self) -> None:
                registry.answer(self, body=False)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        status, kind, content = self.find(request)
        request.send_response(status)
        if status == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="test"')
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("Docker-Content-Digest", digest(content))
        request.end_headers()
        if body:
            request.wfile.write(content)

    def find(self, request: BaseHTTPRequestHandler) -> tuple[int, str, bytes]:
        if request.headers.get("Authorization") != self.wanted:
            return 401, "application/json", b"{}"
        reference = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            self.manifests_asked += 1
            self.manifests_served += request.command == "GET"
            return 200, MANIFEST_TYPE, self.manifest
        if "/blobs/" in request.path and reference in self.blobs:
            return 200, "application/octet-stream", self.blobs[reference]
        return (200 if request.path == "/v2/" else 404), "application/json", b"{}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def entry(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest(content)}


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


@pytest.fixture
def remote_image(jobs, registry: Registry) -> Iterator[str]:
    name = f"{registry.address}/{jobs.images.run_id}/calls-recorder:v1.0.0"
    yield name
    if jobs.client.images(name):
        jobs.client.remove_image(name, force=True)


def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    document = {"auths": {registry.address: {"auth": login}}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def pulling(jobs, image: str, policy: str = "missing"):
    images = json.dumps({"*": image})
    return jobs.backend(JOBS_RUNNERIMAGES=images, JOBS_DOCKER_PULLPOLICY=policy)


async def test_a_missing_image_is_pulled_with_the_credentials_of_the_docker_configuration(
    jobs, registry: Registry, remote_image: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    credentials(tmp_path, monkeypatch, registry)
    backend = pulling(jobs, remote_image)
    await backend.prepare(["a/calls-recorder:v1.0.0", "b/calls-transcriber:v1.0.0"])
    assert jobs.client.images(remote_image)
    assert registry.manifests_served == 1, "two runners, one image, one pull"
    asked = registry.manifests_asked
    await backend.prepare(["a/calls-recorder:v1.0.0"])
    assert registry.manifests_asked == asked
    log = capsys.readouterr().out
    assert "image.pulled" in log
    assert PASSWORD not in log


async def test_always_asks_the_registry_again_at_every_preparation(
    jobs, registry: Registry, remote_image: str, tmp_path: Path, monkeypatch
) -> None:
    credentials(tmp_path, monkeypatch, registry)
    backend = pulling(jobs, remote_image, "always")
    await backend.prepare(["a/calls-recorder:v1.0.0"])
    asked = registry.manifests_asked
    await backend.prepare(["a/calls-recorder:v1.0.0"])
    assert registry.manifests_asked > asked


@pytest.mark.documents("an-image-that-cannot-be-pulled")
async def test_without_credentials_the_refusal_names_the_image(
    jobs, registry: Registry, remote_image: str, tmp_path: Path, monkeypatch, documented
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(BackendError) as failure:
        await pulling(jobs, remote_image).prepare(["a/calls-recorder:v1.0.0"])
    documented("an-image-that-cannot-be-pulled", str(failure.value))
    assert remote_image in str(failure.value)
