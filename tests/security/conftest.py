"""Whole calls with somebody else there, and what is looked for in what they leave."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.demo.options import DemoOptions
from testbed.demo.run import DemoResult, run_demo
from testbed.demo.show import Show
from testbed.demo.visitor import Visitor
from testbed.otlp_receiver import OtlpReceiver, otlp_receiver
from testbed.ports import HOST, Ports
from testbed.stack_settings import IMAGES

RecordCall = Callable[..., Awaitable[DemoResult]]


@pytest.fixture(scope="session")
def own_images(tiny_images: Any, engine_missing: Callable[[str, str], None]) -> None:
    """A real Docker Engine that has the images of this release."""
    for name in IMAGES:
        if not tiny_images.client.images(name):
            engine_missing("docker", f"{name} is not on the engine: run `make images`")


@pytest.fixture
def traces() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def record_call(tmp_path: Path) -> RecordCall:
    """`await record_call(backend, visitor)`: a short call; what it leaves is in `tmp_path / "run"`."""

    async def record(
        backend: str, visitor: Visitor, ports: Ports | None = None, host: str = HOST
    ) -> DemoResult:
        options = DemoOptions(
            output=tmp_path / "run",
            scenario="brief",
            ports=ports or Ports.free(),
            backend=backend,
            host=host,
            keep_work_dir=True,
            visitor=visitor,
        )
        return await run_demo(options, Show(Console(file=io.StringIO())))

    return record
