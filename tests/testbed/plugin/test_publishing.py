"""Posts of recordings and transcripts, and the call post that links them (calls-plugin.md 5.4, 5.5, 5.8)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.looptime


class Call:
    """A recorded call of which everybody has left."""

    def __init__(self, standin, post_id: str, recording_id: str, transcription_id: str) -> None:
        self._standin = standin
        self.post_id = post_id
        self.recording_id = recording_id
        self.transcription_id = transcription_id

    def recording(self, **changes: object) -> dict[str, object]:
        body = {"JobID": self.recording_id, "PostID": self.post_id, "FileIDs": ["mp4"]}
        return body | changes

    def transcription(self, **changes: object) -> dict[str, object]:
        files = [{"Title": "", "Language": "en", "FileIDs": ["vtt", "txt"]}]
        body = {"JobID": self.transcription_id, "PostID": self.post_id, "Transcriptions": files}
        return body | changes

    async def publish(self, body: dict[str, object]) -> tuple[int, str]:
        kind = "transcriptions" if "Transcriptions" in body else "recordings"
        path = f"/bot/calls/{self._standin.channel_id}/{kind}"
        return self._standin.result(await self._standin.post(path, body))

    async def posts(self, type_: str) -> list[dict]:
        return [p for p in await self._standin.posts() if p["type"] == type_]

    async def call_post(self) -> dict:
        [post] = await self.posts("custom_calls")
        return post


async def _call(standin) -> Call:
    alice = await standin.joined("alice")
    await standin.record()
    call = Call(
        standin,
        (await standin.call())["post_id"],
        await standin.job_id("recording"),
        await standin.job_id("transcribing"),
    )
    await standin.record("stop")
    await alice.act("leave")
    return call


async def test_a_recording_is_a_post_with_its_file_linked_from_the_call(standin) -> None:
    call = await _call(standin)
    assert await call.publish(call.recording()) == (200, "success")
    [post] = await call.posts("custom_calls_recording")
    assert post["message"] == "Here's the call recording"
    assert post["file_ids"] == ["mp4"]
    assert post["props"] == {"recording_id": call.recording_id, "call_post_id": call.post_id}
    assert (await call.call_post())["props"]["recordings"] == {
        call.recording_id: {
            "tr_id": call.transcription_id,
            "file_id": "mp4",
            "post_id": post["post_id"],
        }
    }


async def test_an_incomplete_recording_is_400_in_the_order_of_its_checks(standin) -> None:
    call = await _call(standin)
    changes: list[tuple[dict[str, object], str]] = [
        ({"PostID": "", "FileIDs": [], "JobID": ""}, "PostID should not be empty"),
        ({"FileIDs": [], "JobID": ""}, "invalid FileIDs length"),
        ({"FileIDs": None}, "invalid FileIDs length"),
        ({"JobID": ""}, "JobID should not be empty"),
    ]
    for change, text in changes:
        assert await call.publish(call.recording(**change)) == (400, text)
    assert await call.posts("custom_calls_recording") == []


async def test_only_the_first_file_of_a_recording_is_posted(standin) -> None:
    call = await _call(standin)
    await call.publish(call.recording(FileIDs=["one", "two"]))
    [post] = await call.posts("custom_calls_recording")
    assert post["file_ids"] == ["one"]


async def test_publishing_twice_makes_two_posts(standin) -> None:
    call = await _call(standin)
    for _ in range(2):
        assert await call.publish(call.recording()) == (200, "success")
        assert await call.publish(call.transcription()) == (200, "success")
    assert len(await call.posts("custom_calls_recording")) == 2
    assert len(await call.posts("custom_calls_transcription")) == 2


async def test_a_lost_answer_is_500_after_the_post_was_made(standin) -> None:
    call = await _call(standin)
    await standin.fault(lose_publish_answers=1)
    status, _ = await call.publish(call.recording())
    assert status == 500
    assert len(await call.posts("custom_calls_recording")) == 1
    assert await call.publish(call.transcription()) == (200, "success")


async def test_a_transcript_is_a_post_with_the_text_and_the_captions(standin) -> None:
    call = await _call(standin)
    await call.publish(call.recording())
    assert await call.publish(call.transcription()) == (200, "success")
    [post] = await call.posts("custom_calls_transcription")
    captions = [{"title": "en", "language": "en", "file_id": "vtt"}]
    assert post["file_ids"] == ["txt"]
    assert post["props"] == {
        "call_post_id": call.post_id,
        "transcription_id": call.transcription_id,
        "captions": captions,
    }
    call_post = await call.call_post()
    assert call_post["file_ids"] == ["vtt"]  # hidden, for permissions
    assert call_post["props"]["transcriptions"] == {
        call.transcription_id: {
            "rec_id": call.recording_id,
            "file_id": "txt",
            "post_id": post["post_id"],
        }
    }
    [recording] = await call.posts("custom_calls_recording")
    assert recording["props"]["captions"] == captions


async def test_a_title_names_the_captions(standin) -> None:
    call = await _call(standin)
    files = [{"Title": "Weekly", "Language": "de", "FileIDs": ["vtt", "txt"]}]
    await call.publish(call.transcription(Transcriptions=files))
    [post] = await call.posts("custom_calls_transcription")
    assert post["props"]["captions"] == [{"title": "Weekly", "language": "de", "file_id": "vtt"}]


async def test_a_recording_that_comes_after_its_transcript_has_no_captions(standin) -> None:
    call = await _call(standin)
    assert await call.publish(call.transcription()) == (200, "success")
    await call.publish(call.recording())
    [post] = await call.posts("custom_calls_recording")
    assert "captions" not in post["props"]


async def test_an_incomplete_transcript_is_400_in_the_order_of_its_checks(standin) -> None:
    call = await _call(standin)
    one_file = {"Transcriptions": [{"Language": "en", "FileIDs": ["vtt"]}]}
    changes: list[tuple[dict[str, object], str]] = [
        ({"PostID": "", "Transcriptions": []}, "PostID should not be empty"),
        ({"Transcriptions": [], "JobID": ""}, "invalid Transcriptions length"),
        ({"Transcriptions": None}, "invalid Transcriptions length"),
        ({"Transcriptions": [{"FileIDs": []}], "JobID": ""}, "language should not be empty"),
        ({"Transcriptions": [{"Language": "en"}]}, "invalid FileIDs length"),
        (one_file | {"JobID": ""}, "invalid FileIDs length"),
        ({"JobID": ""}, "JobID should not be empty"),
    ]
    for change, text in changes:
        assert await call.publish(call.transcription(**change)) == (400, text)
    assert await call.posts("custom_calls_transcription") == []


async def test_a_transcript_of_a_call_that_links_no_jobs_is_500_after_its_post(start) -> None:
    standin = await start(transcriptions=False)
    await standin.joined("alice")
    await standin.record()
    post_id = (await standin.call())["post_id"]
    call = Call(standin, post_id, await standin.job_id("recording"), "t" * 26)
    status, _ = await call.publish(call.transcription())
    assert status == 500
    assert len(await call.posts("custom_calls_transcription")) == 1


async def test_nothing_is_published_to_an_unknown_post(standin) -> None:
    call = await _call(standin)
    for body in (call.recording(PostID="x" * 26), call.transcription(PostID="x" * 26)):
        assert (await call.publish(body))[0] == 500
    assert len(await standin.posts()) == 1


async def test_unknown_keys_are_ignored(standin) -> None:
    call = await _call(standin)
    assert await call.publish(call.recording(Extra=1)) == (200, "success")


async def test_the_thread_shows_the_files_that_were_uploaded(standin) -> None:
    call = await _call(standin)
    body = {"channel_id": standin.channel_id, "filename": "a.mp4", "file_size": 3}
    upload_id = (await standin.post("/bot/uploads", body)).json()["id"]
    path = f"{standin.plugin}/bot/uploads/{upload_id}"
    file_id = (await standin.request("POST", path, content=b"abc")).json()["id"]
    await call.publish(call.recording(FileIDs=[file_id]))
    [post] = await call.posts("custom_calls_recording")
    assert post["files"] == [{"id": file_id, "name": "a.mp4", "size": 3}]
