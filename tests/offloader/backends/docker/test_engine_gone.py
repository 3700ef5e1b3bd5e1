"""An engine that is gone when it is spoken to; a real one that goes is in test_engine_restart.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from offloader.backends.docker import engine as module
from offloader.backends.docker.engine import Engine, EngineError


async def test_an_engine_that_goes_between_the_knock_and_the_connection_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    monkeypatch.setattr(module, "_knock", lambda address: None)  # it answered a moment ago
    engine = Engine(host=f"unix://{path}", environ={})
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(EngineError, match="Connection refused") as refused:
        await engine.call(lambda engine: engine.client.version())
    opened = {_target(fd) for fd in set(os.listdir("/proc/self/fd")) - before}
    assert not [target for target in opened if target.startswith("socket:")], refused.value
    engine.close()


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""  # the directory's own, while it was read
