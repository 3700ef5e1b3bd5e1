"""The host's buttons, on a stand-in that answers as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from callclient.plugin_api import ApiError
from testbed.hosted_call import CallFailed, HostedCall

pytestmark = pytest.mark.looptime

NOT_YET = "Job service is not initialized"


def refused(reason: str) -> ApiError:
    return ApiError("POST start: refused with HTTP 403", status=403, retryable=False, reason=reason)


@dataclass
class World:
    channel_id: str = "c"


@dataclass
class Buttons:
    """The plugin's answers to them, one after the other."""

    answers: list[ApiError | None] = field(default_factory=list)
    pressed: int = 0

    async def start_recording(self, channel_id: str) -> None:
        self.pressed += 1
        if (answer := self.answers.pop(0)) is not None:
            raise answer

    stop_recording = start_recording


def hosted(buttons: Buttons, *states: dict[str, Any]) -> HostedCall:
    waiting = list(states)

    def answer(request: httpx.Request) -> httpx.Response:
        state = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return httpx.Response(200, json={"jobs": {"recording": state}})

    http = httpx.AsyncClient(base_url="http://site", transport=httpx.MockTransport(answer))
    return HostedCall(None, World(), buttons, http)


def state(start_at: int = 0, end_at: int = 0, err: str = "") -> dict[str, Any]:
    return {"start_at": start_at, "end_at": end_at, "err": err}


async def test_record_is_pressed_again_while_the_plugin_has_no_job_service() -> None:
    buttons = Buttons([refused(NOT_YET), refused(NOT_YET), None])
    await hosted(buttons).press_record()
    assert buttons.pressed == 3


async def test_a_service_that_never_comes_is_named() -> None:
    with pytest.raises(CallFailed, match="the job service: not within 40 s"):
        await hosted(Buttons([refused(NOT_YET)] * 1000)).press_record()


@pytest.mark.parametrize("reason", ["no permissions to record", "recording already in progress"])
async def test_any_other_refusal_fails_at_once_with_its_text(reason: str) -> None:
    buttons = Buttons([refused(reason), refused(reason)])
    with pytest.raises(CallFailed, match=f"HTTP 403: {reason}"):
        await hosted(buttons).press_record()
    with pytest.raises(CallFailed, match=f"HTTP 403: {reason}"):
        await hosted(buttons).press_stop()
    assert buttons.pressed == 2


async def test_the_start_and_the_end_are_waited_for() -> None:
    call = hosted(Buttons([None, None]), state(), state(5), state(5), state(5, 9))
    assert (await call.start_recording())["start_at"] == 5
    assert (await call.stop_recording())["end_at"] == 9


async def test_a_recording_that_fails_fails_the_call_with_its_text() -> None:
    call = hosted(Buttons([None]), state(), state(err="no encoder"))
    with pytest.raises(CallFailed, match="the recording failed: no encoder"):
        await call.start_recording()
