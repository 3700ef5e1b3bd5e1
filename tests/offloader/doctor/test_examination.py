"""Steps run one after the other; what one of them does is never the end of the others."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import jsonschema_rs
import pytest

from offloader.doctor.examination import examine
from offloader.doctor.finding import Finding, Verdict, failure, note, ok, skipped, warning, worst
from offloader.doctor.report import counted, step_lines
from offloader.doctor.step import Context, Step, aside
from offloader.doctor.steps import all_steps, chosen

Examined = Callable[..., Context]

SCHEMA = {
    "type": "object",
    "required": ["format", "version", "at", "verdict", "counts", "steps", "settings", "plugin"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": 1},
        "version": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "verdict": {"enum": ["ok", "warning", "failure"]},
        "counts": {
            "type": "object",
            "required": ["ok", "note", "warning", "failure", "skipped"],
            "additionalProperties": {"type": "integer"},
        },
        "settings": {"type": "object"},
        "plugin": {"type": "object"},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "title", "verdict", "took_s", "findings"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "title": {"type": "string"},
                    "verdict": {"enum": ["ok", "skipped", "warning", "failure"]},
                    "took_s": {"type": "number"},
                    "findings": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": [
                                *("verdict", "code", "what", "value", "cause"),
                                *("fix", "data", "settings", "plugin"),
                            ],
                            "additionalProperties": False,
                            "properties": {
                                "verdict": {
                                    "enum": ["ok", "note", "warning", "failure", "skipped"]
                                },
                                "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
                                "what": {"type": "string"},
                                "value": {"type": "string"},
                                "cause": {"type": "string"},
                                "fix": {"type": "array", "items": {"type": "string"}},
                                "data": {"type": "object"},
                                "settings": {"type": "object"},
                                "plugin": {"type": "object"},
                            },
                        },
                    },
                },
            },
        },
    },
}


def step(name: str, *findings: Finding, **options: object) -> Step:
    async def look(_: Context) -> Sequence[Finding]:
        return findings

    return Step(name, name.title(), look, **options)  # type: ignore[arg-type]  # the tests' own


def test_worst_verdict_is_a_failure_then_a_warning_and_nothing_else_is_bad() -> None:
    assert worst([Verdict.NOTE, Verdict.WARNING, Verdict.FAILURE, Verdict.OK]) is Verdict.FAILURE
    assert worst([Verdict.SKIPPED, Verdict.WARNING, Verdict.OK]) is Verdict.WARNING
    assert worst([Verdict.NOTE, Verdict.SKIPPED]) is Verdict.OK
    assert worst([]) is Verdict.OK


async def test_a_step_that_raises_is_a_failure_and_the_next_one_runs(examined: Examined) -> None:
    async def broken(_: Context) -> Sequence[Finding]:
        raise RuntimeError("no such thing")

    steps = (Step("first", "First", broken), step("second", ok("second_good", "it")))

    found = await examine(steps, examined())

    assert [each.code for each in found.findings] == ["step_broken", "second_good"]
    assert "RuntimeError: no such thing" in found.findings[0].value


async def test_a_step_that_times_out_by_itself_is_called_broken(examined: Examined) -> None:
    async def slow(_: Context) -> Sequence[Finding]:
        raise TimeoutError("its own")

    found = await examine((Step("one", "One", slow),), examined())

    assert [each.code for each in found.findings] == ["step_broken"]


@pytest.mark.looptime
async def test_a_step_that_hangs_is_given_up_after_its_time(examined: Examined) -> None:
    async def hangs(_: Context) -> Sequence[Finding]:
        await asyncio.Event().wait()
        return ()

    steps = (Step("one", "One", hangs, timeout_s=7), step("two", ok("two_good", "it")))
    began_s = asyncio.get_running_loop().time()

    found = await examine(steps, examined())

    assert asyncio.get_running_loop().time() - began_s == pytest.approx(7)
    assert [each.code for each in found.findings] == ["step_hangs", "two_good"]


async def test_without_usable_settings_only_steps_that_need_none_run(examined: Examined) -> None:
    context = examined('[api]\nhttp.listen_address = "nowhere"\n')
    steps = (
        step("needs", ok("needs_good", "it")),
        step("free", ok("free_good", "it"), needs_settings=False),
    )

    found = await examine(steps, context)

    assert [each.code for each in found.findings] == ["settings_unusable", "free_good"]
    assert found.steps[0].verdict is Verdict.SKIPPED


async def test_steps_are_told_as_they_end_in_their_order(examined: Examined) -> None:
    told: list[str] = []
    steps = (step("one", ok("one_good", "it")), step("two", note("two_note", "it")))

    await examine(steps, examined(), tell=lambda result: told.append(result.name))

    assert told == ["one", "two"]


async def test_json_keeps_its_schema_with_every_verdict(examined: Examined) -> None:
    steps = (
        step(
            "all",
            ok("all_ok", "a", "1", data={"n": 1}),
            note("all_note", "b", cause="c"),
            warning("all_warning", "c", fix=("do",), settings={"jobs.post_call_slots": 3}),
            failure("all_failure", "d", plugin={"JobServiceURL": "http://h"}),
            skipped("all_skipped", "e", "why"),
        ),
        step("none"),
    )

    document = (await examine(steps, examined())).document()

    jsonschema_rs.validator_for(SCHEMA, validate_formats=True).validate(
        json.loads(json.dumps(document))
    )
    assert document["verdict"] == "failure"
    assert document["counts"] == {"ok": 1, "note": 1, "warning": 1, "failure": 1, "skipped": 1}
    assert document["settings"] == {"jobs.post_call_slots": 3}
    assert document["plugin"] == {"JobServiceURL": "http://h"}


async def test_what_blocks_for_ever_keeps_nobody_from_going_on(examined: Examined) -> None:
    never = threading.Event()

    async def blocked(_: Context) -> Sequence[Finding]:
        await aside(never.wait)
        return ()

    found = await examine((Step("one", "One", blocked, timeout_s=0.05),), examined())
    never.set()

    assert [each.code for each in found.findings] == ["step_hangs"]


HANGING = """
import asyncio, threading
from offloader.doctor.step import aside

async def main():
    async with asyncio.timeout(0.05):
        await aside(threading.Event().wait)

try:
    asyncio.run(main())
except TimeoutError:
    print("over")
"""


def test_what_blocks_for_ever_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, timeout=20, check=True
    )
    assert done.stdout == b"over\n"


async def test_aside_gives_the_value_or_the_error() -> None:
    assert await aside(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0)


def test_only_and_skip_choose_by_name_and_keep_the_order() -> None:
    steps = (step("a"), step("b"), step("c"))
    assert [s.name for s in chosen(steps, only=("c", "a"))] == ["a", "c"]
    assert [s.name for s in chosen(steps, skip=("b",))] == ["a", "c"]
    with pytest.raises(ValueError, match="'d': no such step; there are: a, b, c"):
        chosen(steps, only=("d",))


def test_all_steps_have_names_of_their_own() -> None:
    names = [each.name for each in all_steps()]
    assert len(set(names)) == len(names)


async def test_the_report_can_be_read_without_colour(examined: Examined) -> None:
    bad = failure(
        "x_bad", "socket\x1b[2J", "closed\nby peer", cause="gone", fix=("open it", "or not")
    )
    found = await examine((step("x", bad, skipped("x_skipped", "rest", "no time")),), examined())

    lines = list(step_lines(found.steps[0], colour=False))

    assert lines == [
        "X (x)",
        "  FAILURE  socket [2J: closed by peer",
        "           cause: gone",
        "           fix:   open it",
        "           fix:   or not",
        "  skipped  rest: no time",
    ]
    coloured = list(step_lines(found.steps[0], colour=True))
    assert [_plain(line) for line in coloured] == lines
    assert counted(found) == "1 failure, 0 warnings, 0 notes, 0 ok, 1 skipped"


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


async def test_of_two_steps_that_measure_the_same_the_later_one_counts(examined: Examined) -> None:
    first = step("a", ok("a_ok", "x", settings={"jobs.post_call_slots": 1}))
    second = step("b", ok("b_ok", "x", settings={"jobs.post_call_slots": 2}))

    assert (await examine((first, second), examined())).settings() == {"jobs.post_call_slots": 2}
