"""Everything of both jobs is gone in mid-call, processes and files: recording and transcript are posted from
their copies, with all but the last seconds in them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from callclient.plugin_api import PluginApi
from testbed.analysis.marks import find_beeps, flash_onsets, screen_brightness
from testbed.analysis.media import iter_pictures, luma, read_sound
from testbed.analysis.mp4_structure import read_mp4
from testbed.analysis.pictures import contained
from testbed.analysis.speech import parse_webvtt, split_words
from testbed.bots.world import read_world
from testbed.demo.options import DemoOptions, provide_models
from testbed.ports import Ports
from testbed.speech.clips import CLIPS_DIRECTORY
from testbed.stack import Stack
from testbed.stack_settings import StackSettings
from testbed.truth import Truth, read_truth

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

LOSS_S: Final = 10.0
NEAR_S: Final = 0.12
LEAD_S: Final = 3.0
"""From the start of the recording until every voice and screen must be in it."""
SETTLED_S: Final = 2.0
"""A shared screen may have to ask for a key frame first."""


@pytest.fixture
def bucket(unused_tcp_port: int) -> Iterator[dict[str, str]]:
    """A bucket over real HTTP, as the job service is told of it."""
    address = f"http://127.0.0.1:{unused_tcp_port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(unused_tcp_port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    try:
        while "Running on" not in (line := server.stdout.readline()):
            assert line, "the bucket's server has ended"
        # It tells of every request, and would wait for whoever reads that.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        request = urllib.request.Request(f"{address}/copies", method="PUT", data=b"")
        urllib.request.urlopen(request, timeout=10).close()
        yield {
            "JOBS_COPIESURL": "s3://copies/calls",
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.communicate()


def _destroy(jobs_dir: Path) -> None:
    """As the end of their host: no process of a job runs on, and no file is left."""
    for directory in jobs_dir.iterdir():
        shim = json.loads((directory / "shim.json").read_text())["shim_pid"]
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getsid(int(name)) == shim:
                    os.kill(int(name), signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(directory)


class Site:
    """What the stand-in tells of the call."""

    def __init__(self, http: httpx.AsyncClient, channel_id: str) -> None:
        self._http = http
        self._channel_id = channel_id

    async def call(self) -> dict[str, Any]:
        found = await self._http.get(f"/testbed/calls/{self._channel_id}")
        call: dict[str, Any] = found.raise_for_status().json()
        return call

    async def sessions(self) -> int:
        return len((await self.call()).get("sessions", []))

    async def started(self) -> bool:
        jobs = (await self.call()).get("jobs", {})
        kinds = ("recording", "transcribing")
        return all(jobs.get(kind, {}).get("start_at", 0) > 0 for kind in kinds)

    async def posts(self, kind: str) -> list[dict[str, Any]]:
        found = (await self._http.get(f"/testbed/posts/{self._channel_id}")).raise_for_status()
        return [post for post in found.json() if post["type"] == f"custom_calls_{kind}"]

    async def content(self, file_id: str) -> bytes:
        return (await self._http.get(f"/testbed/files/{file_id}")).raise_for_status().content


async def test_a_call_survives_the_loss_of_everything_but_its_copies(
    bucket: dict[str, str], tmp_path: Path
) -> None:
    work_dir = tmp_path / "work"
    for path in (work_dir, tmp_path / "logs"):
        path.mkdir(parents=True)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=tmp_path / "logs",
        models_dir=provide_models(DemoOptions(), work_dir),
        ports=Ports.free(),
        offloader_environment={**bucket, "JOBS_KEEPPUBLISHED": "1d"},  # with what the copies told
    )
    async with Stack(settings) as stack:
        world = read_world(settings.world_file)
        truth_file = tmp_path / "truth.jsonl"
        arguments = ["testbed.bots", "--world", str(settings.world_file)]
        arguments += ["--site-url", settings.site_url, "--scenario", "short"]
        arguments += ["--truth", str(truth_file), "--speech", str(CLIPS_DIRECTORY)]
        bots = await stack.start_talker("bots", arguments)
        local = httpx.AsyncHTTPTransport(uds=str(settings.admin_socket))
        async with (
            httpx.AsyncClient(base_url=settings.site_url, trust_env=False) as http,
            httpx.AsyncClient(base_url="http://offloader", transport=local) as admin,
            asyncio.timeout(270),
        ):
            site = Site(http, world.channel_id)
            while await site.sessions() < 2:
                await asyncio.sleep(0.1)
            token = world.users[world.host].token
            async with PluginApi(site_url=settings.site_url, auth_token=token) as api:
                await api.start_recording(world.channel_id)
            while not await site.started():
                await asyncio.sleep(0.1)
            assert bots.stdin is not None
            bots.stdin.write(b"go\n")
            while not _said(read_truth(truth_file), count=7):
                await asyncio.sleep(0.1)
            start_at_ms = (await site.call())["jobs"]["recording"]["start_at"]
            lost_ns = time.monotonic_ns()
            await asyncio.to_thread(_destroy, settings.jobs_dir)

            found = {}
            for kind in ("recording", "transcription"):
                while not (posts := await site.posts(kind)):
                    await asyncio.sleep(0.2)
                found[kind] = posts
            jobs = (await admin.get("/jobs")).raise_for_status().json()["jobs"]
            while any(job["unpublished"] for job in jobs):
                await asyncio.sleep(0.2)
                jobs = (await admin.get("/jobs")).raise_for_status().json()["jobs"]
            (recording,), (transcription,) = found["recording"], found["transcription"]
            film = tmp_path / "recording.mp4"
            film.write_bytes(await site.content(recording["file_ids"][0]))
            vtt = await site.content(transcription["props"]["captions"][0]["file_id"])
            assert [len(await site.posts(kind)) for kind in found] == [1, 1]
            logs = [(await admin.get(f"/jobs/{job['id']}/logs")).text for job in jobs]
        truth = read_truth(truth_file)
    assert {job["stop_reason"] for job in jobs} == {"lost"}
    assert all('"event": "started"' in log for log in logs), "what the lost jobs said is kept"
    zero_ns = truth.monotonic_ns(start_at_ms)
    _check_film(film, truth, zero_ns=zero_ns, lost_ns=lost_ns)
    _check_words(vtt.decode(), truth, zero_ns=zero_ns, lost_ns=lost_ns)


def _said(truth: Truth, *, count: int) -> bool:
    now_ns = time.monotonic_ns()
    return sum(utterance.end_ns < now_ns for utterance in truth.utterances) >= count


def _check_film(path: Path, truth: Truth, *, zero_ns: int, lost_ns: int) -> None:
    structure = read_mp4(path)
    lost_s = (lost_ns - zero_ns) / 1e9 - structure.duration_s
    assert lost_s < LOSS_S
    area = contained(structure.width_px, structure.height_px)
    brightness = (
        (at_s, screen_brightness(luma(frame), area)) for at_s, frame in iter_pictures(path)
    )
    found = {"beep": find_beeps(read_sound(path)), "flash": flash_onsets(brightness)}
    (shared_ns,) = truth.times_ns("screen_start")
    for kind, first_ns in (
        ("beep", zero_ns + round(LEAD_S * 1e9)),
        ("flash", shared_ns + round(SETTLED_S * 1e9)),
    ):
        last_ns = lost_ns - round(LOSS_S * 1e9)
        sent = [(ns - zero_ns) / 1e9 for ns in truth.times_ns(kind) if first_ns < ns < last_ns]
        assert sent, f"no {kind} to judge by"
        missing = [at_s for at_s in sent if not _near(at_s, found[kind])]
        assert missing == [], f"{kind}s of {len(sent)}"


def _near(at_s: float, found: list[float]) -> bool:
    return any(abs(at_s - each) < NEAR_S for each in found)


def _check_words(vtt: str, truth: Truth, *, zero_ns: int, lost_ns: int) -> None:
    """A small model hears most words right; of each sentence that must be there it heard some."""
    cues = parse_webvtt(vtt)
    sent = [
        utterance
        for utterance in truth.utterances
        if utterance.onset_ns > zero_ns and utterance.end_ns < lost_ns - LOSS_S * 1e9
    ]
    assert len(sent) >= 3
    for utterance in sent:
        first_s, last_s = ((ns - zero_ns) / 1e9 for ns in (utterance.onset_ns, utterance.end_ns))
        heard = {
            word
            for cue in cues
            if cue.start_s < last_s and cue.end_s > first_s
            for word in split_words(cue.text)
        }
        wanted = split_words(utterance.text)
        assert len([word for word in wanted if word in heard]) >= len(wanted) / 2, utterance.clip
