"""Every alert is provoked: Debian's Prometheus watches real services, in which all is well, then nothing.

The rules are those that we ship, but for their patience: each `for` is a second, and each window of a range
half a minute. Made-up series try the true ones (`alerts.yaml`).
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sfu.messages import Join
from testbed.brokers import RedisServer
from testbed.certificates import make_certificates
from testbed.fleet import Fleet, Host, Service
from testbed.polling import until
from testbed.ports import HOST, Ports

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("helm/*/alerts.yaml"))
ADMIN_KEY = "a" * 32
ADMIN = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY}
MIN_FREE_BYTES = 256 << 20
LIMIT_S = 40.0
STEP_S = 0.5

NOBODY_ANSWERS = {"CallsOffloaderDown", "CallsSfuDown"}
TOLD = {
    ("CallsRecordingFailed", "crashed"),
    ("CallsTranscriptionFailed", "crashed"),
    ("CallsJobNotStarted", "recording"),
    ("CallsCaptionsLate", "caption_final_lag_p95_s"),
    ("CallsWordsDropped", "packets_dropped"),
    ("CallsRecordingIncomplete", "audio_dropped_s"),
    ("CallsClockOffset", "recording"),
    ("CallsClockOffset", "transcribing"),
    ("CallsWorkerLost", "host-b"),
    ("CallsSfuJoinsRefused", "invalid"),
}
"""What else the alerts say."""
UNUSABLE = {
    "CallsOffloaderBackendUnreachable",
    "CallsOffloaderBackendErrors",
    "CallsDrainForgotten",
}
WELL = {
    "caption_final_lag_p95_s": 0.8,
    "clock_offset_s": 0.1,
    "copy_behind_s": 2,
    "audio_dropped_s": 0,
    "packets_dropped": 0,
}
"""What a job tells that is well."""
POOR = {
    "caption_final_lag_p95_s": 4.2,
    "clock_offset_s": 7,
    "copy_behind_s": 90,
    "audio_dropped_s": 9,
    "packets_dropped": 3,
}
SCRIPT = f"""
case $CALL_ID in
failed) mkdir -p $DATA_DIR/r; echo '{{}}' > $DATA_DIR/r/job.json; exit 1;;
refused) echo '{{"event": "metrics", "start_failed": 1}}'; exit 0;;
well) echo '{json.dumps({"event": "metrics", **WELL})}';;
*) echo '{json.dumps({"event": "metrics", **POOR})}';;
esac
trap 'exit 0' TERM
while [ ! -e $DATA_DIR/go ]; do sleep 0.1; done
"""
"""A job, by its call: what it does and what it tells the service (docs/job-contract.md, 5)."""

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.alone]


def hurried(directory: Path) -> list[Path]:
    """Our rules, as files with less patience."""
    made = []
    for path in FILES:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["expr"] = re.sub(r"\[\d+[smhd]\]", "[30s]", rule["expr"])
                if "for" in rule:
                    rule["for"] = "1s"
        made.append(directory / f"{path.parent.name}.yaml")
        made[-1].write_text(yaml.safe_dump(rules))
    return made


@pytest.fixture
def small_disk(tmp_path: Path, engine_missing: Callable[[str, str], None]) -> Iterator[Path]:
    """A file system of its own, of 4 GiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4g", "none", str(place)]
    done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    if done.returncode:
        engine_missing("tmpfs", "a small disk needs root and mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], timeout=10, check=True)


class Watching:
    """What Prometheus says, and what has fired since the last look back."""

    def __init__(self, prometheus: Any) -> None:
        self.prometheus = prometheus

    async def firing(self) -> set[str]:
        """Names of alerts."""
        told = await self.prometheus.alerts()
        return {alert["labels"]["alertname"] for alert in told if alert["state"] == "firing"}

    async def until_firing(self, wanted: set[str]) -> None:
        """Each of them, at once or one after the other."""
        left = set(wanted)

        async def look() -> bool:
            left.difference_update(await self.firing())
            return not left

        try:
            await until(look, "alerts", limit_s=LIMIT_S)
        except TimeoutError:
            raise AssertionError(f"not firing within {LIMIT_S:g} s: {sorted(left)}") from None

    async def until_silent(self) -> None:
        """Nothing fires or is about to."""

        async def look() -> bool:
            return not await self.prometheus.alerts()

        await until(look, "silence", limit_s=LIMIT_S)

    async def fired(self, *, begin: float) -> set[tuple[str, ...]]:
        """Alerts that have since then, by name and those of their labels that say what is wrong."""
        series = await self.prometheus.over(
            'ALERTS{alertstate="firing"}', begin=begin, end=time.time() + STEP_S, step=STEP_S
        )
        telling = ("alertname", "stop_reason", "type", "figure", "worker", "reason", "operation")
        return {
            tuple(one["metric"][label] for label in telling if label in one["metric"])
            for one in series
        }


@pytest.mark.timeout(120)
async def test_every_alert_fires_in_its_trouble_and_none_while_all_is_well(
    tmp_path: Path,
    prometheus: Callable[..., Any],
    bundled_sfu: Callable[[Ports], Any],
    redis_server: RedisServer,
    small_disk: Path,
    alerts: list[Any],
    queries: list[Any],
) -> None:
    """Nothing answers; all is well; trouble of all kinds; the broker is gone."""
    tls = make_certificates(tmp_path / "tls", address=HOST, ends=timedelta(days=90))
    ports = Ports.free()
    sfu = bundled_sfu(ports)
    targets = {"calls-offloader": [f"{HOST}:{ports.offloader}"], "calls-sfu": [sfu.address]}
    async with AsyncExitStack() as stack:
        watched = prometheus(
            targets, every=f"{STEP_S * 1000:g}ms", rules=hurried(tmp_path), ca=tls.ca
        )
        watching = Watching(await stack.enter_async_context(watched))
        began = time.time()
        fleet = Fleet(small_disk / "fleet", broker_url=redis_server.url, tls=tls)
        await stack.enter_async_context(fleet)
        common = {"JOBS_MINFREEDISK": f"{MIN_FREE_BYTES}"}
        worker, spare, _ = await asyncio.gather(
            fleet.start_worker("host-a", slots=2, script=SCRIPT, **common),
            fleet.start_worker("host-b", WORKER_LABELS="x", WORKER_ONLYLABELLED="true", **common),
            watching.until_firing(NOBODY_ANSWERS),
        )
        service, _ = await asyncio.gather(
            fleet.start_service(port=ports.offloader, **ADMIN, **common),
            stack.enter_async_context(sfu.running()),
        )
        await service.knows_places(2)
        await all_is_well(watching, service, worker, sfu, alerts=alerts, queries=queries)

        troubled = time.time()
        spare.kill_all()
        tls.certificate.write_bytes(
            make_certificates(tmp_path / "soon", address=HOST).certificate.read_bytes()
        )
        await asyncio.gather(
            jobs_in_trouble(watching, service, disk=small_disk), the_sfu_in_trouble(watching, sfu)
        )
        fired = await watching.fired(begin=troubled)
        assert not {name for name, *_ in fired} & (UNUSABLE | NOBODY_ANSWERS), fired

        redis_server.stop()
        (await service.http.post("/admin/drain", auth=("", ADMIN_KEY))).raise_for_status()
        await watching.until_firing(UNUSABLE | {"CallsWorkerLost"})
        fired = await watching.fired(begin=began)
        assert {name for name, *_ in fired} == {alert["alert"] for alert in alerts}
        assert not TOLD - fired, fired


async def all_is_well(
    watching: Watching,
    service: Service,
    worker: Host,
    sfu: Any,
    *,
    alerts: list[Any],
    queries: list[Any],
) -> None:
    """A call is recorded and transcribed: whatever an alert looks at is there, and none fires."""
    await watching.until_silent()
    begin = time.time()
    guest = await sfu.guest("well")
    jobs = [await service.create("well", kind) for kind in ("recording", "transcribing")]
    looked_at = {
        selector
        for alert in alerts
        for selector in re.findall(r"\b(?:calls_offloader|rtcd)_\w+\{[^}]*\}", alert["expr"])
    }
    asked = looked_at | {query.expr for query in queries if query.beyond_a_call}
    assert len(asked) > len(looked_at)

    async def seen() -> bool:
        await guest.report_loss(0)
        for expr in sorted(asked):
            if not await watching.prometheus.over(expr, begin=begin, end=time.time(), step=STEP_S):
                return False
            asked.discard(expr)
        return True

    try:
        await until(seen, "data", limit_s=LIMIT_S)
    except TimeoutError:
        raise AssertionError(f"nobody has measured {sorted(asked)}") from None
    for job_id in jobs:
        worker.finish(job_id)
    for job_id in jobs:
        ended = await service.in_state(job_id, "finished")
        assert ended["stop_reason"] == "completed", ended
    assert await watching.fired(begin=begin) == set()
    assert await watching.prometheus.alerts() == []


async def jobs_in_trouble(watching: Watching, service: Service, *, disk: Path) -> None:
    """Some fail, do not start, leave their results; some are not up to their calls, and take all places;
    the disk gets full."""
    kinds = ("recording", "transcribing")
    failing = [await service.create("failed", kind) for kind in kinds]
    failing.append(await service.create("refused"))
    for job_id in failing:
        await service.in_state(job_id, "finished")
    hour_ms = 3_600_000
    with sqlite3.connect(service.directory / "offloader.db", timeout=10) as database:
        database.execute("UPDATE jobs SET stopped_at_ms = stopped_at_ms - ?", (hour_ms,))
        # The two results that are not published, of the 50 GiB that all may take.
        database.execute("UPDATE jobs SET left_bytes = 23 << 30 WHERE unpublished")
    database.close()
    await asyncio.gather(
        *(service.create(call, kind) for call in ("poor", "poor-too") for kind in kinds)
    )
    fill(disk)
    await watching.until_firing(
        {
            *("CallsCertificateEnds", "CallsDiskLow"),
            "CallsConfigurationRejected",  # the new certificate is of another key
            *("CallsRecordingFailed", "CallsTranscriptionFailed", "CallsJobNotStarted"),
            *("CallsResultsWait", "CallsNoCapacity", "CallsCaptionsLate", "CallsWordsDropped"),
            "CallsUnpublishedQuota",
            *("CallsRecordingIncomplete", "CallsCopiesBehind", "CallsClockOffset"),
        }
    )


async def the_sfu_in_trouble(watching: Watching, sfu: Any) -> None:
    """Clients with loss, clients that it cannot let in, joins that are none, and media processes that die."""
    guest = await sfu.guest("lossy")
    for _ in range(100):
        await guest.report_loss(0.5)
    for number in range(6):
        sfu.plugin.send(Join(call_id="", user_id="u", session_id=f"nowhere{number}".ljust(26, "x")))
    await asyncio.gather(*(sfu.guest(f"forger{number}", forger=True) for number in range(6)))
    await watching.until_firing(
        {"CallsSfuLossy", "CallsSfuJoinsRefused", "CallsSfuConnectionsFail"}
    )
    dying = asyncio.create_task(sfu.media_dies_again_and_again())
    await watching.until_firing({"CallsSfuProcessDied", "CallsSfuProcessMissing"})
    dying.cancel()
    await asyncio.wait([dying])


def fill(disk: Path) -> None:
    """As far as free space goes: what is left is more than has to be, and less than twice that."""
    size = shutil.disk_usage(disk).used + MIN_FREE_BYTES * 3 // 2
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], timeout=10, check=True)
