"""The audit's file, its chain, and the queue before it."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clientauth.caller import Caller
from clientauth.turns import PEER
from foundation.clock import ManualClock
from offloader.audit import EACH, LOGIN_FAILED, Audit
from offloader.audit_chain import verify
from offloader.audit_file import AuditFile, line_digest, put_aside
from offloader.cli.main import main
from offloader.setting_audit import settings_digest
from offloader.settings import load_settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def audit_file(
    path: Path, *, max_bytes: int = 1 << 20, retention: timedelta | None = None
) -> AuditFile:
    return AuditFile(path, max_bytes=max_bytes, retention=retention)


def append(file: AuditFile, count: int = 1, *, now: datetime = NOON) -> None:
    entry = {"time": now.isoformat(), "action": "job.start"}
    file.append([entry] * count, now=now)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def full_disk(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_each_line_has_the_hash_of_the_one_before_and_only_the_owner_reads(path: Path) -> None:
    file = audit_file(path)
    append(file, 2)
    append(audit_file(path))
    first, second, third = path.read_bytes().splitlines()
    assert json.loads(first)["prev"] == "0" * 64
    assert json.loads(second)["prev"] == line_digest(first)
    assert json.loads(third)["prev"] == line_digest(second)
    assert [e["seq"] for e in entries(path)] == [1, 2, 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = verify(path)
    assert (found.broken, found.lines, found.digest) == ("", 3, line_digest(third))


def test_the_chain_goes_on_over_files_put_aside_by_size_and_by_day(path: Path) -> None:
    append(audit_file(path), 2)
    append(audit_file(path, max_bytes=10))
    append(audit_file(path), now=NOON + DAY)
    assert [number for number, _ in put_aside(path)] == [1, 3]
    found = verify(path)
    assert (found.broken, found.files, found.first_seq, found.last_seq) == ("", 3, 1, 4)
    assert not verify(put_aside(path)[1][1]).broken  # one of them alone


def changed(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"job.start", b"job.stops")


def taken_out(lines: list[bytes]) -> None:
    del lines[1]


def put_in(lines: list[bytes]) -> None:
    lines.insert(2, lines[1])


def made_rubbish(lines: list[bytes]) -> None:
    lines[1] = b"rubbish"


@pytest.mark.parametrize(
    ("deed", "line"), [(changed, 2), (taken_out, 2), (put_in, 3), (made_rubbish, 2)]
)
def test_the_first_wrong_line_is_named(path: Path, deed: Any, line: int) -> None:
    append(audit_file(path), 4)
    lines = path.read_bytes().splitlines()
    deed(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert verify(path).broken.startswith(f"{path}:{line}: ")


def test_what_is_too_old_is_deleted_and_the_chain_says_so(path: Path) -> None:
    append(audit_file(path), 3)
    append(audit_file(path), now=NOON + DAY)
    audit_file(path, retention=2 * DAY).expire(now=NOON + 2.5 * DAY)
    assert [number for number, _ in put_aside(path)] == [4]
    assert [(e["action"], e.get("through")) for e in entries(path)] == [("audit.expired", 3)]
    assert not verify(path).broken
    put_aside(path)[0][1].unlink()
    assert "are gone, and no record says" in verify(path).broken


def test_a_line_cut_off_by_a_crash_stays_and_is_told_of(path: Path) -> None:
    append(audit_file(path), 2)
    with path.open("ab") as file:
        file.write(b'{"seq":3,"act')
    assert verify(path).unfinished
    append(audit_file(path))
    assert b'{"seq":3,"act\n' in path.read_bytes()
    found = verify(path)
    assert (found.broken, found.last_seq, found.unfinished) == ("", 4, False)
    lines = path.read_bytes().replace(b"audit.recovered", b"job.stop")
    path.write_bytes(lines)
    assert f"{path}:3: is no line" in verify(path).broken


@pytest.mark.parametrize(("before", "later"), [(2, DAY), (0, 0 * DAY), (0, DAY)])
def test_so_does_one_at_the_end_of_a_day_or_the_very_first(
    path: Path, before: int, later: timedelta
) -> None:
    if before:
        append(audit_file(path), before)
    with path.open("ab") as file:
        file.write(b'{"seq":1,"act')
    append(audit_file(path), now=NOON + later)
    found = verify(path)
    assert (found.broken, found.last_seq, found.unfinished) == ("", before + 2, False)


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(audit_file(path))
    before = path.read_bytes()

    monkeypatch.setattr("offloader.audit_file.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        append(audit_file(path))
    assert path.read_bytes() == before


async def written(audit: Audit) -> None:
    await audit.aclose(asyncio.create_task(audit.run()))


def note(audit: Audit, action: str = "job.stop", **fields: str) -> None:
    audit.note(action, who=Caller("plugin"), result="done", door="network", **fields)


async def test_wrong_keys_of_one_address_are_counted_and_others_still_told(path: Path) -> None:
    audit = Audit(audit_file(path), clock=ManualClock())
    token = PEER.set("192.0.2.7")
    for _ in range(1000):
        note(audit, LOGIN_FAILED)
    for _ in range(EACH + 5):
        note(audit)
    PEER.set("192.0.2.8")
    note(audit, LOGIN_FAILED)
    PEER.reset(token)
    await written(audit)
    told = [(e["action"], e["address"], e.get("times", 1)) for e in entries(path)]
    assert told.count((LOGIN_FAILED, "192.0.2.7", 1)) == 10
    assert (LOGIN_FAILED, "192.0.2.7", 990) in told
    assert ("job.stop", "192.0.2.7", 5) in told
    assert (LOGIN_FAILED, "192.0.2.8", 1) in told
    assert not verify(path).broken


async def test_what_the_queue_has_no_room_for_is_counted_and_told_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.audit._QUEUE", 3)
    audit = Audit(audit_file(path), clock=ManualClock())
    for _ in range(5):
        note(audit)
    assert audit.dropped == 2
    await written(audit)
    first = entries(path)[0]
    assert (first["action"], first["times"]) == ("audit.dropped", 2)
    assert len(entries(path)) == 4


@pytest.mark.looptime
async def test_records_wait_until_the_file_can_be_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = Audit(audit_file(path), clock=ManualClock())
    running = asyncio.create_task(audit.run())
    failures: list[int] = []

    def failing(descriptor: int) -> None:
        failures.append(descriptor)
        full_disk(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr("offloader.audit_file.os.fsync", failing)
        note(audit)
        while len(failures) < 2:  # a thread writes: it takes real time
            await asyncio.sleep(1)
        assert audit._queue
    while audit._queue:
        await asyncio.sleep(1)
    assert [e["action"] for e in entries(path)] == ["job.stop"]
    await audit.aclose(running)


def test_the_configurations_digest_knows_values_and_no_secrets() -> None:
    def digest(**environ: str) -> str:
        return settings_digest(load_settings(Path("/nowhere.toml"), environ))

    assert digest(JOBS_OUTBOXMAXAGE="2d") != digest()
    assert digest(API_SECURITY_ADMINSECRETKEY="a" * 32) == digest()


@pytest.mark.documents("an-audit-that-was-changed")
def test_the_command_names_the_line(
    path: Path, capsys: pytest.CaptureFixture[str], documented: Any
) -> None:
    append(audit_file(path), 3)
    assert main(["audit", "verify", str(path)]) == 0
    assert "lines 1 to 3 in 1 file" in capsys.readouterr().out
    lines = path.read_bytes().splitlines()
    changed(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert main(["audit", "verify", "--json", str(path)]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["lines"] == 2
    documented("an-audit-that-was-changed", told.err.strip())


@pytest.mark.documents("no-audit-to-verify")
def test_the_command_says_that_there_is_no_audit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], documented: Any
) -> None:
    monkeypatch.setenv("AUDIT_FILE", "")
    assert main(["audit", "verify"]) == 1
    documented("no-audit-to-verify", capsys.readouterr().err.strip())


@pytest.mark.documents("an-audit-that-cannot-be-read")
def test_the_command_says_what_cannot_be_read(
    path: Path, capsys: pytest.CaptureFixture[str], documented: Any
) -> None:
    assert main(["audit", "verify", str(path)]) == 1
    documented("an-audit-that-cannot-be-read", capsys.readouterr().err.strip())
