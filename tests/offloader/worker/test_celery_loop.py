"""What Celery's own loop leaves behind in the process that it ran in."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.asynchronous import Hub

from offloader.backends.celery.app import celery_app
from offloader.setting_celery import CelerySettings
from offloader.worker import celery_thread
from offloader.worker.celery_thread import CeleryThread


@pytest.mark.parametrize("ending", [SystemExit(0), RuntimeError("broken"), None])
def test_however_a_worker_ends_no_socket_of_its_loop_stays_open(
    ending: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs: list[Any] = []

    class Worker:
        def __init__(self, **_: Any) -> None:
            self.hub = Hub()
            hubs.append((self.hub, self.hub._create_waker()))

        def start(self) -> None:
            if ending is not None:
                raise ending

    monkeypatch.setattr(celery_thread, "_Worker", Worker)
    thread = CeleryThread.__new__(CeleryThread)
    thread._app = celery_app(CelerySettings(broker_url="memory://"), patience_s=1.0)
    thread._lanes, thread._open, thread._node_name, thread._threads = {}, set(), "worker@w1", 1
    if ending is None:
        thread._run_once()
    else:
        with pytest.raises(type(ending)):
            thread._run_once()
    [(hub, waker)] = hubs
    assert (waker.reader.fileno(), waker.writer.fileno(), hub._waker) == (-1, -1, None)
    hub.close()
    thread._app.close()
