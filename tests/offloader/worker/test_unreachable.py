"""What a worker says of services and workers that cannot be asked, held against docs/troubleshooting.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from offloader.errors import StoreError
from offloader.store.key_place import shared_cipher
from offloader.store.secret_key import Cipher
from offloader.worker.claims import Claims, ServiceUnreachable
from offloader.worker.transcribing_client import OwnersDoor, OwnerUnreachable

SERVICE = "http://service:4545"
TRACK = "http://w2:4546/tasks/aaaaaaaaaaaa/voice-1"


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`answered(ANSWER)`: whatever is asked for, that is what comes back."""

    def by(answer: Any) -> None:
        async def reply(_request: httpx.Request) -> httpx.Response:
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                await asyncio.Event().wait()
            return answer

        monkeypatch.setattr(
            "httpx.AsyncHTTPTransport.handle_async_request", lambda _self, request: reply(request)
        )

    return by


@pytest.mark.looptime
@pytest.mark.documents(
    "a-service-that-does-not-let-a-worker-claim", "a-service-that-does-not-let-a-worker-claim/2"
)
async def test_a_service_that_cannot_be_asked_for_a_job(answered: Any, documented: Any) -> None:
    claims = Claims(name="w1", url="http://w1:4546", cipher=Cipher("k" * 32))
    for name, answer in (
        ("a-service-that-does-not-let-a-worker-claim", httpx.Response(401)),
        ("a-service-that-does-not-let-a-worker-claim/2", None),
    ):
        answered(answer)
        with pytest.raises(ServiceUnreachable) as refused:
            await claims.claim(SERVICE, "aaaaaaaaaaaa")
        documented(name, str(refused.value))
    await claims.aclose()


@pytest.mark.looptime
@pytest.mark.documents(
    "a-track-whose-owner-is-away", "a-track-whose-owner-is-away/2", "a-track-whose-owner-is-away/3"
)
async def test_an_owner_that_cannot_be_asked_for_a_track(
    answered: Any, documented: Any, tmp_path: Path
) -> None:
    owners = OwnersDoor(cipher=Cipher("k" * 32), worker="w1")
    for name, answer in (
        ("a-track-whose-owner-is-away", httpx.Response(503)),
        ("a-track-whose-owner-is-away/2", httpx.Response(200, json={})),
    ):
        answered(answer)
        with pytest.raises(OwnerUnreachable) as away:
            await owners.claim(TRACK, "c")
        documented(name, str(away.value))
    answered(httpx.ReadTimeout(""))
    with pytest.raises(OwnerUnreachable) as away:
        await owners.fetch(TRACK, tmp_path / "audio")
    documented("a-track-whose-owner-is-away/3", str(away.value))
    await owners.aclose()


@pytest.mark.documents(
    "a-key-file-of-a-worker-that-is-not-there", "a-key-file-of-a-worker-that-is-not-there/2"
)
def test_a_worker_makes_no_key(documented: Any, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    for name, file in (
        ("a-key-file-of-a-worker-that-is-not-there", "none"),
        ("a-key-file-of-a-worker-that-is-not-there/2", "short"),
    ):
        with pytest.raises(StoreError) as unusable:
            shared_cipher({}, key_file=tmp_path / file)
        documented(name, str(unusable.value))
