"""A client that registered itself and turned bad: what it sends and is answered, and who is still served."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

CLIENT: Final = "mallory"
KEY: Final = "m" * 40
RUNNER: Final = "mattermost/calls-recorder:v0.8.13"
_ANSWER_S: Final = 60.0
_PROBE_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0: the connection was closed without one."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        """The document; raises ValueError for none."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that was tried."""

    kind: str
    what: str
    wanted: Collection[int]
    """Statuses of a refusal."""
    answer: Answer

    @property
    def refused(self) -> bool:
        return self.answer.status in self.wanted

    def __str__(self) -> str:
        return f"{self.kind}, {self.what}: {self.answer.status} {self.answer.body[:200]!r}"


@dataclass
class Hostile:
    """Asks by bare connections: a client library would tidy up paths and heads."""

    host: str
    port: int
    attempts: list[Attempt] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    """All that it was ever given."""

    async def ask(
        self,
        method: str,
        path: str,
        *,
        document: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
        client: str = CLIENT,
    ) -> Answer:
        """One request on a connection of its own. `key`: None sends no credentials."""
        if document is not None:
            body = json.dumps(document).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if key is not None:
            lines.append(f"Authorization: {basic(client, key)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        answer = await self.send("\r\n".join(lines).encode("latin-1") + body)
        if (method, path, answer.status) == ("POST", "/jobs", 200):
            self.jobs.add(answer.json()["id"])
        return answer

    async def send(self, data: bytes) -> Answer:
        """Whatever comes back for `data`."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            async with asyncio.timeout(_ANSWER_S):
                writer.write(data)
                everything = await reader.read()
        except ConnectionError:
            everything = b""
        finally:
            writer.close()
        head, _, rest = everything.partition(b"\r\n\r\n")
        parts = head.split(b" ", 2)
        return Answer(int(parts[1]) if len(parts) > 1 else 0, head, rest)

    async def tries(
        self, kind: str, what: str, wanted: Collection[int], method: str, path: str, **more: Any
    ) -> Answer:
        """Ask, and note what came of it."""
        return self.note(kind, what, wanted, await self.ask(method, path, **more))

    def note(self, kind: str, what: str, wanted: Collection[int], answer: Answer) -> Answer:
        """Remember an answer."""
        self.attempts.append(Attempt(kind, what, wanted, answer))
        return answer

    def not_refused(self) -> list[str]:
        """What got through, or was answered in another way."""
        return [str(attempt) for attempt in self.attempts if not attempt.refused]

    def counts(self) -> dict[str, int]:
        """Attempts by kind."""
        return dict(Counter(attempt.kind for attempt in self.attempts))


class Probe:
    """Asks for `/version` all the time, as Mattermost might: are others served meanwhile?"""

    def __init__(self, hostile: Hostile) -> None:
        self._hostile = hostile
        self._over = asyncio.Event()
        self.answered_s: list[float] = []
        self.failed: list[str] = []

    async def run(self) -> None:
        """Until `end`."""
        while not self._over.is_set():
            began_s = time.perf_counter()
            answer = await self._hostile.ask("GET", "/version", key=None)
            self.answered_s.append(time.perf_counter() - began_s)
            if answer.status != 200:
                self.failed.append(f"{answer.status} {answer.body[:100]!r}")
            await asyncio.sleep(_PROBE_EVERY_S)

    def end(self) -> None:
        self._over.set()

    def p99_s(self) -> float:
        """Of all answers so far, seconds."""
        ordered = sorted(self.answered_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def basic(client: str, key: str) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{client}:{key}".encode()).decode()


def job_wish(**input_data: Any) -> dict[str, Any]:
    """A recording like any other, but for what is given."""
    harmless = {
        "call_id": "h" * 26,
        "post_id": "h" * 26,
        "recording_id": "h" * 26,
        "auth_token": "h" * 26,
    }
    return {
        "type": "recording",
        "runner": RUNNER,
        "max_duration_sec": 60,
        "input_data": harmless | input_data,
    }
