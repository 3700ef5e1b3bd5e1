"""What goes wrong around an engine, held against docs/troubleshooting.md. None is needed."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from offloader.backends.docker import volume
from offloader.backends.docker.backend import DockerBackend
from offloader.backends.docker.engine import Engine, EngineError
from offloader.backends.docker.images import Images
from offloader.backends.docker.options import Reference
from offloader.models import JobType


@pytest.mark.documents("the-engine-takes-too-long", "the-connection-to-the-engine-is-closed")
async def test_an_engine_that_hangs_and_a_connection_that_is_closed(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(host="unix:///nonexistent.sock", environ={})
    let_go = threading.Event()
    monkeypatch.setattr(engine, "_translated", lambda _: let_go.wait(20))
    with pytest.raises(EngineError) as hanging:
        await engine.call(lambda _: None, timeout_s=0.01)
    documented("the-engine-takes-too-long", str(hanging.value))
    let_go.set()
    engine.close()
    with pytest.raises(EngineError) as closed:
        await engine.call(lambda _: None)
    documented("the-connection-to-the-engine-is-closed", str(closed.value))


@pytest.mark.documents("an-image-that-is-gone-after-its-pull")
async def test_an_image_that_somebody_removes_at_once(documented: Any) -> None:
    class Forgetful:
        async def call(self, *_: Any, **__: Any) -> None: ...

    with pytest.raises(EngineError) as gone:
        await Images(Forgetful(), policy="missing").for_launch("calls-recorder:v1")
    documented("an-image-that-is-gone-after-its-pull", str(gone.value))


@pytest.mark.documents("nothing-of-it-is-there/2")
async def test_a_container_that_somebody_removed(options: Any, documented: Any) -> None:
    backend = DockerBackend(options(), environ={})
    attempt = Reference("a" * 12, JobType.RECORDING, "calls-recorder:v1", salvage=1)
    gone = backend._poll(SimpleNamespace(container=lambda _: None), attempt)
    await backend.aclose()
    documented("nothing-of-it-is-there/2", gone.detail)


@pytest.mark.documents("files-that-take-too-long-to-list")
def test_a_volume_without_end(documented: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("data/a"))
    content.seek(0)

    @contextmanager
    def archive(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(raw=content)

    monkeypatch.setattr(volume, "_LONGEST_WALK_S", -1.0)
    with pytest.raises(EngineError) as long:
        list(volume.walk(SimpleNamespace(archive=archive), "calls-recorder-1"))
    documented("files-that-take-too-long-to-list", str(long.value))
