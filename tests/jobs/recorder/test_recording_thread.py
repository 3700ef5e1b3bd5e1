"""The thread in which a recording is made."""

from __future__ import annotations

import pytest

from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext, StartFailed
from jobs.recorder.decoding.decoder import Decoder
from jobs.recorder.inbox import Inbox
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.recording_thread import RecordingThread
from jobs.status import StatusReporter


@pytest.fixture
def thread(api, settings) -> RecordingThread:
    context = JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )
    return RecordingThread(context, settings, inbox=Inbox(), decoder=Decoder(), mishaps=Mishaps())


@pytest.mark.documents("an-encoder-that-does-not-start")
async def test_encoders_that_do_not_come_up_are_a_failed_start(
    thread, monkeypatch, documented
) -> None:
    monkeypatch.setattr("jobs.recorder.recording_thread._ENCODER_TIMEOUT_S", 0)
    with thread, pytest.raises(StartFailed) as late:
        await thread.start_encoders("libx264")
    documented("an-encoder-that-does-not-start", str(late.value))


async def test_a_file_that_cannot_be_begun_is_a_failed_start(thread, settings) -> None:
    with thread, pytest.raises(StartFailed, match="recording"):
        await thread.start_encoders("libx264")
    assert not settings.directory.exists()
