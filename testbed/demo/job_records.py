"""What the job service has kept about the jobs of a run, asked of it by its local socket."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from testbed.analysis.checks import CheckResult
from testbed.demo.conversation import CallFailed

_POLL_S: Final = 0.1
_ANSWER_LIMIT_S: Final = 5.0
_KINDS: Final = ("recording", "transcribing")


async def settled_records(
    socket: Path, *, limit_s: float, without: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The records of all jobs but those `without` as soon as each has finished, else those after `limit_s`,
    oldest first.

    Raises:
        CallFailed: the job service does not answer.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    give_up_s = asyncio.get_running_loop().time() + limit_s
    async with httpx.AsyncClient(
        base_url="http://offloader", transport=transport, timeout=_ANSWER_LIMIT_S
    ) as client:
        while True:
            try:
                answer = (await client.get("/jobs")).raise_for_status().json()
            except httpx.HTTPError as error:
                raise CallFailed(f"the job service does not tell of its jobs: {error}") from error
            records = [r for r in answer["jobs"][::-1] if r["id"] not in without]
            settled = all(record["state"] == "finished" for record in records)
            if settled or asyncio.get_running_loop().time() >= give_up_s:
                return records
            await asyncio.sleep(_POLL_S)


def check_records(records: Sequence[Mapping[str, Any]]) -> CheckResult:
    """One recording and one transcription, both ended by themselves, with everything published: also when the
    service was killed in between."""
    told = [
        f"{r['type']} {r['state']}: {r['stop_reason']}, exit code {r['exit_code']}"
        + (", not published" if r["unpublished"] else "")
        for r in records
    ]
    clean = all(
        (r["state"], r["stop_reason"], r["exit_code"], r["unpublished"])
        == ("finished", "completed", 0, False)
        for r in records
    )
    both = sorted(r["type"] for r in records) == sorted(_KINDS)
    return CheckResult(
        "records of the job service", both and clean, "; ".join(told) or "none", "offloader"
    )
