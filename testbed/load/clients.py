"""Clients that cost little themselves: one that posts jobs as the plugin does, and many who follow events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.polling import until
from testbed.ports import HOST

CLIENT_ID: Final = "plugin"
KEY: Final = "k" * 32
PLUGIN_PATIENCE_S: Final = 60.0
"""After which the plugin gives up and tells its users that the recording failed (calls-plugin.md 6)."""
_ROOM_WITHIN_S: Final = 30.0
_BODY: Final[dict[str, str]] = {
    "site_url": "https://mattermost.example.com",
    "auth_token": "t" * 26,
    "thread_id": "t" * 26,
    "recording_id": "r" * 26,
    "audio_rate": "64",
    "video_rate": "1500",
    "video_preset": "fast",
    "output_format": "mp4",
    "width": "1280",
    "height": "720",
    "frame_rate": "20",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """To one request."""

    status: int
    """0: none came within the plugin's minute."""
    seconds: float
    body: bytes

    @property
    def error(self) -> str:
        """The text of a refusal; empty when it is none."""
        with suppress(ValueError, AttributeError):
            return str(json.loads(self.body).get("error") or "")
        return ""


def job_body(call: int, job_type: str = "recording") -> dict[str, Any]:
    """`POST /jobs` as the plugin sends it for a call of its own."""
    image = "calls-recorder:v0.8.13" if job_type == "recording" else "calls-transcriber:v0.7.2"
    ids = {"call_id": f"call{call:022d}", "post_id": f"post{call:022d}"}
    return {
        "type": job_type,
        "runner": f"mattermost/{image}",
        "max_duration_sec": 3600,
        "input_data": _BODY | ids,
    }


async def post_job(port: int, call: int, job_type: str = "recording") -> Answer:
    """One job, on a connection of its own."""
    return await ask(port, "POST", "/jobs", job_body(call, job_type))


async def register(port: int) -> None:
    """The client's first request, with which it becomes known."""
    body = job_body(0)
    answer = await ask(port, "POST", "/jobs/init", {"Runners": [body["runner"]]})
    if answer.status != 200:
        raise RuntimeError(f"POST /jobs/init: {answer.status} {answer.error}")


async def has_room(port: int, calls: int) -> None:
    """Wait until the service knows of so many places: workers report every few seconds."""

    async def look() -> bool:
        answer = await ask(port, "GET", "/capacity")
        return answer.status == 200 and json.loads(answer.body)["limit"] >= calls

    await until(look, f"{calls} places", limit_s=_ROOM_WITHIN_S)


async def ask(port: int, method: str, path: str, document: object = None) -> Answer:
    """One request of the client; waits as long as the plugin would."""
    body = b"" if document is None else json.dumps(document).encode()
    began_s = time.perf_counter()
    try:
        async with asyncio.timeout(PLUGIN_PATIENCE_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(_head(method, path, len(body)) + body)
                content = await reader.read()
            finally:
                writer.close()
    except (TimeoutError, OSError):
        return Answer(0, time.perf_counter() - began_s, b"")
    seconds = time.perf_counter() - began_s
    head, _, rest = content.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return Answer(int(words[1]) if len(words) > 1 else 0, seconds, rest)


async def post_within(
    port: int, calls: Sequence[int], *, within_s: float, job_type: str = "recording"
) -> list[Answer]:
    """A job for each of `calls`, spread evenly over `within_s` seconds whatever the answers take."""

    async def one(number: int, call: int) -> Answer:
        await asyncio.sleep(within_s * number / len(calls))
        return await post_job(port, call, job_type)

    return list(await asyncio.gather(*(one(number, call) for number, call in enumerate(calls))))


@dataclass
class Listeners:
    """Open streams of `GET /events`, read by tasks of this process."""

    port: int
    events: Counter[str] = field(default_factory=Counter)
    """Over all streams, by name (`job`, `dropped`, `end`)."""
    broken: int = 0
    """Streams that ended before they were closed here."""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _closing: bool = False

    async def open(self, count: int) -> int:
        """`count` streams more; how many answered with 200."""
        return sum(await asyncio.gather(*(self._open() for _ in range(count))))

    async def close(self) -> None:
        """Hang up and wait for the tasks."""
        self._closing = True
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _open(self) -> bool:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        self._writers.append(writer)
        writer.write(_head("GET", "/events", 0, keep=True))
        status = await reader.readline()
        if b" 200 " not in status:
            return False
        while (await reader.readline()).strip():
            pass
        self._tasks.append(asyncio.create_task(self._listen(reader)))
        return True

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        with suppress(OSError):
            while chunk := await reader.read(1 << 18):
                text = rest + chunk
                for name in ("job", "dropped", "end"):
                    self.events[name] += text.count(f"event: {name}\n".encode())
                # What may be the beginning of a name is looked at again, what was counted is not.
                rest = text[text.rfind(b"\n") + 1 :]
        if not self._closing:
            self.broken += 1


def _head(method: str, path: str, length: int, *, keep: bool = False) -> bytes:
    token = base64.b64encode(f"{CLIENT_ID}:{KEY}".encode()).decode()
    connection = "keep-alive" if keep else "close"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Basic {token}\r\n"
        f"Content-Type: application/json\r\nConnection: {connection}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()
