"""A deliberate fault in a whole call fails the check that is about it: the demo's judgement can say no."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from testbed.demo.options import DemoOptions
from testbed.demo.run import run_demo
from testbed.demo.show import Show
from testbed.ports import Ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("swap:alice:bob", "speakers of the transcript"),
        ("delay:bob:0.3", "every voice in its place"),
        ("key:bob", "every voice in its place"),
        ("upload:lost", "recording can be read"),
    ],
)
async def test_a_fault_fails_the_check_that_names_it(
    tmp_path: Path, fault: str, check: str
) -> None:
    options = DemoOptions(output=tmp_path, scenario="short", ports=Ports.free(), faults=(fault,))
    result = await run_demo(options, Show(Console(file=io.StringIO())))
    assert check in {failed.name for failed in result.failed}
