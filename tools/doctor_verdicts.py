"""docs/doctor-verdicts.md: every verdict of the doctor, what it was seen on, and the test that sees it.

    DOCTOR_VERDICTS=seen.jsonl pytest tests/offloader/doctor
    python -m tools.doctor_verdicts seen.jsonl > docs/doctor-verdicts.md

The verdicts come from the source, what was seen from the tests' own run (tests/offloader/doctor/conftest.py).
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "doctor-verdicts.md"
_SOURCE: Final = ROOT / "offloader" / "doctor"
_MAKERS: Final = {
    "ok": "ok",
    "note": "note",
    "warning": "warning",
    "failure": "failure",
    "skipped": "skipped",
}
_BY_NAME: Final[Mapping[tuple[str, str], Sequence[tuple[str, str]]]] = {
    ("docker.py", "make"): (("docker_plain_tcp", "note"), ("docker_plain_tcp", "warning")),
    ("jobs_media.py", "make"): (("media_cannot_run", "failure"), ("media_cannot_run", "warning")),
    ("store.py", "make"): (("store_disk_low", "failure"), ("store_disk_low", "warning")),
    ("network/answers.py", "make"): (("clock_far_off", "failure"), ("clock_off", "warning")),
    ("network/plugin.py", "make"): (("plugin_there", "ok"), ("plugin_there", "note")),
    ("network/plugin.py", "ok"): (("transcriptions_on", "ok"), ("captions_on", "ok")),
    ("network/plugin.py", "note"): (("transcriptions_off", "note"), ("captions_off", "note")),
    ("network/sfu.py", "failure"): (),
    ("network/sfu.py", "skipped"): (),
}
"""Calls whose code or verdict is a variable: what they may be. Those of network/sfu.py are RtcdErrors'."""
_SKIPPED_ERRORS: Final = ("rtcd_wants_credentials",)

REAL: Final = "real"
PEER: Final = "peer"
HOST: Final = "host"
DOUBLE: Final = "double"
OF_THIS_HOST: Final = ("this host", "one core of this host", "a limit of this shell")
_LEVELS: Final = (REAL, PEER, HOST, DOUBLE)


@dataclass(frozen=True, slots=True, order=True)
class Seen:
    """A finding in a test."""

    code: str
    verdict: str
    level: str
    on: str
    """What it was found on, in words."""
    test: str
    """`tests/offloader/doctor/test_x.py::test_y`."""


HOSTS: Final = frozenset(
    {
        *("limits_files ok", "limits_buffers ok", "limits_buffers_small note", "media_fonts ok"),
        *("clock_synchronised ok", "clock_inexact note", "clock_unsynchronised warning"),
        *("cpu_features ok", "cpu_no_avx2 warning", "cpu_amount ok", "cpu_one_core warning"),
        *("cpu_busy note", "disk_speed ok", "disk_slow warning", "disk_slow_sync warning"),
        *("media_fonts_missing note", "benchmark_calls ok", "benchmark_more_possible note"),
        *("benchmark_too_many warning", "limits_port_free note"),
    }
)
"""Where a test has the host as it is, which of these it finds depends on the host."""

ALWAYS_HOSTS: Final = ("limits_files", "limits_buffers", "limits_buffers_small")
"""Told of the host, whatever else a test is about."""
_PROCESSOR: Final = "the machines of this project have another processor"
_SHARED: Final = "all processes of a machine have it in common, so a test may not change it"
_OLD: Final = "no such old release is to be had here"
REASONS: Final[Mapping[str, str]] = {
    "broker_too_old": _OLD,
    "clock_inexact": f"the kernel's clock: {_SHARED}",
    "clock_synchronised": f"the kernel's clock: {_SHARED}",
    "clock_unknown": "every Linux answers adjtimex(2)",
    "clock_unsynchronised": f"the kernel's clock: {_SHARED}",
    "clock_wrong": f"the time of day: {_SHARED}",
    "cpu_busy": "the load of five minutes is that of five minutes",
    "cpu_no_avx2": _PROCESSOR,
    "cpu_no_neon": _PROCESSOR,
    "cpu_one_core": "the machines of this project have two cores and more",
    "cpu_powersave": "virtual machines have no cpufreq",
    "cpu_unknown": _PROCESSOR,
    "disk_slow": "the disks of this project are fast enough, and one that is slowed down measures the brake",
    "disk_slow_sync": "as disk_slow",
    "docker_too_old": _OLD,
    "limits_buffers_small": f"net.core.rmem_max: {_SHARED}",
    "sfu_far": "no kernel here delays packets (netem); the SFU is a real one, the limit of 300 ms another",
    "step_broken": "a step that fails in a way that nobody has thought of has to be made up",
    "store_remote_disk": "no kernel here has NFS or CIFS",
    "workers_draining": "a worker that drains without jobs has ended at once",
    "workers_other_version": "another release would have to be installed beside this one",
}
"""Why what stands for the real thing has to do, by code."""

_MACHINE: Final = "tests/offloader/doctor/test_machine_steps.py::"
_CLOCK: Final = f"{_MACHINE}test_the_kernels_word_on_the_clock_counts"
_CPU: Final = f"{_MACHINE}test_the_processor_is_judged_by_what_models_compute_with"
_DISK: Final = f"{_MACHINE}test_the_disk_is_held_against_what_the_calls_write"
_DIRECTLY: Final[Mapping[tuple[str, str], str]] = {
    ("broker_too_old", "failure"): (
        "tests/offloader/doctor/test_broker_steps.py::test_what_no_redis_of_a_test_does_is_judged_too"
    ),
    ("clock_inexact", "note"): _CLOCK,
    ("clock_synchronised", "ok"): _CLOCK,
    ("clock_unsynchronised", "warning"): _CLOCK,
    ("clock_unknown", "skipped"): (f"{_MACHINE}test_without_the_kernels_word_timedatectl_is_asked"),
    ("clock_wrong", "failure"): (
        f"{_MACHINE}test_a_clock_before_the_release_is_wrong_whatever_the_kernel_says"
    ),
    ("cpu_no_avx2", "warning"): _CPU,
    ("cpu_no_neon", "warning"): _CPU,
    ("disk_slow", "warning"): _DISK,
    ("disk_slow_sync", "warning"): _DISK,
    ("docker_too_old", "failure"): (
        "tests/offloader/doctor/test_docker_step.py::test_an_engine_that_is_too_old_is_a_failure"
    ),
    ("limits_buffers_small", "note"): f"{_MACHINE}test_small_receive_buffers_are_a_note",
    ("step_broken", "failure"): (
        "tests/offloader/doctor/test_examination.py::test_a_step_that_raises_is_a_failure_and_the_next_one_runs"
    ),
}
"""Tests that ask the part of a step that judges, and not the step."""
_SYSTEMD: Final = "tests/packaging/test_systemd.py::test_the_doctor_reads_the_unit_that_runs"
_UNIT: Final = (
    ("limits_unit_good", "ok"),
    ("limits_unit", "warning"),
    ("limits_files_low", "warning"),
)
KNOWN: Final = (
    *(Seen(*key, DOUBLE, "values of the test", test) for key, test in _DIRECTLY.items()),
    *(Seen(*key, REAL, "systemd in a container", _SYSTEMD) for key in _UNIT),
)
"""What tests see otherwise than by a step in this directory."""


@cache
def verdicts(source: Path = _SOURCE) -> dict[tuple[str, str], str]:
    """Code and verdict of every finding that the source can make, and the file that does.

    Raises:
        ValueError: a finding whose code or verdict cannot be read from the source.
    """
    found: dict[tuple[str, str], str] = {}
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        if name == "finding.py":
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
                for key in _made(name, call.func.id, call.args[0]):
                    found.setdefault(key, name)
    return found


def _made(file: str, maker: str, code: ast.expr) -> Iterator[tuple[str, str]]:
    if maker not in (*_MAKERS, "make", "RtcdError"):
        return
    texts = _texts(code)
    if texts is None or maker == "make":
        try:
            yield from _BY_NAME[file, maker]
        except KeyError:
            raise ValueError(f"{file}: {maker}({ast.unparse(code)}): say what it may be") from None
        return
    for text in texts:
        if maker == "RtcdError":
            yield text, "skipped" if text in _SKIPPED_ERRORS else "failure"
        else:
            yield text, _MAKERS[maker]


def _texts(code: ast.expr) -> list[str] | None:
    if isinstance(code, ast.Constant) and isinstance(code.value, str):
        return [code.value]
    if isinstance(code, ast.IfExp):
        both = [_texts(code.body), _texts(code.orelse)]
        return None if None in both else [text for texts in both for text in texts or ()]
    return None


def read(lines: Iterable[str]) -> Iterator[Seen]:
    """What a run of the tests wrote."""
    for line in lines:
        seen = Seen(**json.loads(line))
        own = seen.on in OF_THIS_HOST or seen.code in ALWAYS_HOSTS
        if own and seen.level != DOUBLE and f"{seen.code} {seen.verdict}" in HOSTS:
            seen = replace(seen, level=HOST, on=OF_THIS_HOST[0])
        yield seen


def best(seen: Iterable[Seen]) -> dict[tuple[str, str], Seen]:
    """Of each verdict what is nearest to the real thing; of several that of a test that speaks of it."""
    found: dict[tuple[str, str], Seen] = {}
    for each in sorted(seen, key=_rank):
        found.setdefault((each.code, each.verdict), each)
    return found


def _rank(seen: Seen) -> tuple[int, bool, str]:
    return _LEVELS.index(seen.level), not _speaks(seen), seen.test


def _speaks(seen: Seen) -> bool:
    """The code is in the test, or in the row of its table."""
    file, _, name = seen.test.partition("::")
    plain, _, row = name.partition("[")
    text = _functions(file).get(plain, "")
    if row and f"-{seen.code}" not in f"-{row}" and "parametrize" in text:
        text = text[text.rindex("def ") :]
    return f'"{seen.code}"' in text


@cache
def _functions(file: str) -> dict[str, str]:
    """Text of each function, with its decorators."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


_HEAD: Final = """# Doctor: where each verdict was seen

*This page is written by `python -m tools.doctor_verdicts`, from a run of the tests; each named test has to
find its rows again whenever it runs.*

Every verdict that `offloader doctor` can give is provoked by a test. What it is provoked on:

* **real**: the thing itself: an engine, a database, a broker, a disk, a limit of the kernel, a TLS server,
  our SFU and the stand-in as processes;
* **peer**: real sockets, or a real process, and at the other end a server or program of the test's own that
  behaves as asked. Such is the API server of Kubernetes: *`kubernetes` was not run on a real cluster*;
* **host**: the host of the test as it is. Which of such verdicts is found depends on it, so no test has to
  find the row;
* **double**: values or texts as the real thing tells them, for what the machines of this project cannot be
  brought to do. The last table says why.

"""


def page(table: Mapping[tuple[str, str], Seen], source: Mapping[tuple[str, str], str]) -> str:
    """Markdown. `table`: of every verdict."""
    counts = {level: sum(each.level == level for each in table.values()) for level in _LEVELS}
    told = ", ".join(f"{count} {level}" for level, count in counts.items())
    parts = [_HEAD, f"{len(table)} verdicts: {told}.\n\n"]
    parts.append(
        "| Module | Code | Verdict | Level | Seen on | Test |\n|---|---|---|---|---|---|\n"
    )
    rows = sorted(table, key=lambda key: (source[key].count("/"), source[key], key))
    for key in rows:
        each = table[key]
        test = each.test.removeprefix("tests/")
        module = source[key].removesuffix(".py").replace("/", ".")
        cells = (module, f"`{key[0]}`", key[1], each.level, each.on, f"`{test}`")
        parts.append("| " + " | ".join(cells) + " |\n")
    parts.append("\n## Why a double has to do\n\n| Code | Verdict | Why |\n|---|---|---|\n")
    doubles = [key for key in rows if table[key].level == DOUBLE]
    parts += [f"| `{code}` | {verdict} | {REASONS[code]} |\n" for code, verdict in doubles]
    return "".join(parts)


def told(text: str) -> dict[tuple[str, str], Seen]:
    """The rows of the page."""
    row = re.compile(r"^\| [\w.]+ \| `(\w+)` \| (\w+) \| (\w+) \| ([^|]+) \| `([^`]+)` \|$", re.M)
    return {(m[1], m[2]): Seen(m[1], m[2], m[3], m[4], f"tests/{m[5]}") for m in row.finditer(text)}


def main() -> None:
    """Write the page to standard output.

    Exit code 1, with the reason on standard error: no test has seen a verdict, or a double has no reason.
    """
    source = verdicts()
    with open(sys.argv[1], encoding="utf-8") as file:
        seen = [*read(file), *KNOWN]
    table = {key: one for key, one in best(seen).items() if key in source}
    wrong = [f"no test has seen {key}" for key in sorted(set(source) - set(table))]
    for key, one in sorted(table.items()):
        if one.level == DOUBLE and key[0] not in REASONS:
            wrong.append(f"no reason for the double of {key}")
    if wrong:
        sys.exit("\n".join(wrong))
    sys.stdout.write(page(table, source))


if __name__ == "__main__":
    main()
