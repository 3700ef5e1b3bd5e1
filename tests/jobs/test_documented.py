"""What jobs say of settings, files and servers that are of no use, held against docs/troubleshooting.md."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import httpx
import numpy as np
import pytest

from callclient.plugin_api import ApiError
from foundation.copies.contents import look_into
from foundation.copies.journal import Change, Entry, JournalError, key_of
from foundation.logs import configure_logs
from jobs import harness
from jobs.container import NoSecrets, receive
from jobs.copies import rescue
from jobs.copies.fence import _decoded
from jobs.copies.restore import NoCopy, restore
from jobs.job_directory import create, held, load
from jobs.recorder import encoders, poster, salvage, subtitles
from jobs.recorder import settings as recorder_settings
from jobs.recorder.mp4 import Mp4Writer, finish_mp4
from jobs.recorder.outcome import complete_file
from jobs.recorder.settings import RecorderSettings
from jobs.settings import SettingsError
from jobs.transcriber import audio, handover, offline, retranscribe, tasks_door, track, track_bundle
from jobs.transcriber.capture import _read_index
from jobs.transcriber.outcome import check_understood
from jobs.transcriber.settings import read_settings
from jobs.uploads import Uploader, _chunks

ID = "67t5u6cmtfbb7jug739d43xa9e"


def refusal(provoke: Callable[[], object]) -> str:
    """What is said by the error that this raises."""
    with pytest.raises(Exception) as raised:
        provoke()
    return str(raised.value)


@pytest.mark.documents("the-jobs-secrets-did-not-arrive/3", "the-jobs-secrets-did-not-arrive/4")
def test_secrets_that_do_not_end(documented: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "the job's secrets did not arrive: "
    reading, writing = os.pipe()
    try:
        late = refusal(lambda: receive(reading, wait_s=0))
        documented("the-jobs-secrets-did-not-arrive/4", prefix + late)
        monkeypatch.setattr("jobs.container._MOST_BYTES", 1)
        os.write(writing, b"too many")
        with pytest.raises(NoSecrets) as many:
            receive(reading, wait_s=5)
        documented("the-jobs-secrets-did-not-arrive/3", prefix + str(many.value))
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.documents("a-log-level-that-no-job-knows")
def test_a_log_level_that_is_none(documented: Any) -> None:
    documented("a-log-level-that-no-job-knows", refusal(lambda: configure_logs(level="loud")))


@pytest.mark.documents("the-call-is-on-livekit/2")
def test_a_call_on_another_media_stack(documented: Any) -> None:
    settings: Any = SimpleNamespace(livekit_url="wss://livekit.example.com")
    documented("the-call-is-on-livekit/2", refusal(lambda: harness._check_media_stack(settings)))


@pytest.mark.documents(
    "a-directory-that-is-no-jobs",
    "a-directory-that-is-no-jobs/2",
    "a-directory-that-is-no-jobs/3",
)
def test_a_directory_that_cannot_be_salvaged(documented: Any, tmp_path: Path) -> None:
    entry = "a-directory-that-is-no-jobs"
    environ = {"AUTH_TOKEN": "t" * 26}

    def load_it() -> object:
        return load(RecorderSettings, tmp_path, environ, overrides={})

    (tmp_path / "job.json").write_text("[]")
    documented(entry, refusal(load_it))
    (tmp_path / "job.json").write_text("")
    documented(f"{entry}/2", refusal(load_it))
    kind: Any = SimpleNamespace(
        from_document=lambda document, **_: SimpleNamespace(
            directory=tmp_path / ID, job_id=ID, call_id=ID
        )
    )
    (tmp_path / "job.json").write_text("{}")
    documented(f"{entry}/3", refusal(lambda: load(kind, tmp_path, environ, overrides={})))


@pytest.mark.documents(
    "options-of-a-speech-service-that-are-no-json",
    "options-of-a-speech-service-that-are-no-json/2",
    "a-model-that-is-no-name-of-a-folder",
    "a-wait-for-the-recordings-post-that-is-no-number",
)
def test_settings_of_a_transcription_of_another_form(documented: Any) -> None:
    good = {
        **dict.fromkeys(("CALL_ID", "POST_ID", "TRANSCRIPTION_ID", "AUTH_TOKEN"), ID),
        "SITE_URL": "http://127.0.0.1",
    }
    for entry, variables in (
        ("options-of-a-speech-service-that-are-no-json", {"TRANSCRIBE_API_OPTIONS": "{"}),
        ("options-of-a-speech-service-that-are-no-json/2", {"TRANSCRIBE_API_OPTIONS": "[]"}),
        ("a-model-that-is-no-name-of-a-folder", {"MODEL": "../base"}),
        ("a-wait-for-the-recordings-post-that-is-no-number", {"PUBLISH_AFTER_S": "soon"}),
    ):
        with pytest.raises(SettingsError) as refused:
            read_settings(good | variables, cpus=2)
        documented(entry, str(refused.value))


@pytest.mark.documents(
    "a-recording-that-cannot-be-finished",
    "a-recording-that-cannot-be-finished/2",
    "a-recording-that-cannot-be-finished/3",
)
def test_files_of_a_recording_that_cannot_be_used(documented: Any, tmp_path: Path) -> None:
    entry = "a-recording-that-cannot-be-finished"
    documented(entry, refusal(lambda: complete_file(tmp_path, chapters=False)))
    empty = tmp_path / "recording.mp4"
    empty.write_bytes(b"")
    documented(f"{entry}/3", refusal(lambda: finish_mp4(empty, tmp_path / "done.mp4")))
    headed = tmp_path / "headed.mp4"
    with av.open(str(headed), "w", format="mp4", options={"movflags": "empty_moov"}) as container:
        container.add_stream("aac", rate=48000)
        container.start_encoding()
    documented(f"{entry}/2", refusal(lambda: finish_mp4(headed, tmp_path / "done.mp4")))


class PlayedStore:
    """A store of copies in memory."""

    def __init__(self, *objects: bytes) -> None:
        self.objects = {key_of(ID, number): data for number, data in enumerate(objects, 1)}

    async def names(self, prefix: str) -> list[str]:
        return [key.removeprefix(prefix + "/") for key in self.objects if key.startswith(prefix)]

    async def get(self, key: str) -> bytes:
        return self.objects[key]

    async def start_of(self, key: str, length: int) -> bytes:
        return self.objects[key][:length]


def _object(header: bytes) -> bytes:
    return b"CPJ1" + len(header).to_bytes(4, "big") + header


_SHORT = Entry([Change("voice.ogg", 0, b"1234")]).encode()
DAMAGES = {
    "a-copy-that-is-damaged": [Entry([], previous=7).encode()],
    "a-copy-that-is-damaged/3": [b""],
    "a-copy-that-is-damaged/4": [b"PNG1\0\0\0\2{}"],
    "a-copy-that-is-damaged/5": [_object(b"{}")],
    "a-copy-that-is-damaged/6": [
        _object(
            b'{"changes": [{"name": "voice.ogg", "offset": -1, "bytes": 0, "whole": true}],'
            b' "gone": [], "previous": 0}'
        )
    ],
    "a-copy-that-is-damaged/7": [_SHORT[:-1]],
    "a-copy-that-is-damaged/8": [
        _object(
            b'{"changes": [{"name": "voice.ogg", "offset": 0, "bytes": 9, "whole": true}],'
            b' "gone": [], "previous": 0, "sha256": "%s"}'
            % hashlib.sha256(b"").hexdigest().encode()
        )
    ],
    "a-copy-that-is-damaged/9": [Entry([Change("voice.ogg", 5, b"x")]).encode()],
    "a-copy-that-is-damaged/10": [Entry([Change("../x", 0, b"")]).encode()],
}


@pytest.mark.documents(
    "a-copy-that-is-damaged",
    "a-copy-that-is-damaged/3",
    "a-copy-that-is-damaged/4",
    "a-copy-that-is-damaged/5",
    "a-copy-that-is-damaged/6",
    "a-copy-that-is-damaged/7",
    "a-copy-that-is-damaged/8",
    "a-copy-that-is-damaged/9",
    "a-copy-that-is-damaged/10",
)
async def test_a_damaged_copy_is_told_with_its_object(documented: Any, tmp_path: Path) -> None:
    for entry, objects in DAMAGES.items():
        store: Any = PlayedStore(*objects)
        with pytest.raises(JournalError) as damaged:
            await restore(store, ID, tmp_path / entry.replace("/", "-"))
        documented(entry, str(damaged.value))


@pytest.mark.documents("a-copy-that-is-damaged/2")
async def test_a_copy_without_an_object_cannot_be_looked_into(documented: Any) -> None:
    store: Any = PlayedStore(Entry([], previous=7).encode())
    with pytest.raises(JournalError) as damaged:
        await look_into(store, ID)
    documented("a-copy-that-is-damaged/2", str(damaged.value))


@pytest.mark.documents("a-copy-that-is-not-there", "a-copy-that-is-not-there/2")
async def test_a_copy_without_a_job_in_it(
    documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "QUIET_S", 0)
    store: Any = PlayedStore()
    with pytest.raises(NoCopy) as none:
        await rescue._make_again(store, ID, tmp_path / ID)
    documented("a-copy-that-is-not-there", str(none.value))
    store = PlayedStore(Entry([Change("publisher", 0, b"x")]).encode())
    with pytest.raises(NoCopy) as nothing:
        await rescue._make_again(store, ID, tmp_path / ID)
    documented("a-copy-that-is-not-there/2", str(nothing.value))


@pytest.mark.documents("nobody-knows-who-else-publishes/3")
def test_a_claim_that_is_none(documented: Any) -> None:
    documented(
        "nobody-knows-who-else-publishes/3", refusal(lambda: _decoded(1, b"[]", f"{ID}/claim-1"))
    )


@pytest.mark.documents("an-upload-that-does-not-fit/3")
async def test_a_file_that_shrinks_while_it_is_uploaded(documented: Any, tmp_path: Path) -> None:
    file = tmp_path / "recording.mp4"
    file.write_bytes(b"short")
    with pytest.raises(OSError) as shorter:
        async for _ in _chunks(file, 0, 100):
            pass
    documented("an-upload-that-does-not-fit/3", str(shorter.value))


@pytest.mark.documents("a-speech-engine-that-is-gone/3")
def test_a_transcription_in_which_nothing_was_understood(documented: Any) -> None:
    segment: Any = SimpleNamespace(failure="RuntimeError in faster-whisper")
    documented(
        "a-speech-engine-that-is-gone/3",
        refusal(lambda: check_understood([segment])),
    )


@pytest.mark.documents(
    "subtitles-that-cannot-be-put-into-a-recording",
    "subtitles-that-cannot-be-put-into-a-recording/2",
    "subtitles-that-cannot-be-put-into-a-recording/3",
)
def test_subtitles_of_no_use(documented: Any, tmp_path: Path) -> None:
    entry = "subtitles-that-cannot-be-put-into-a-recording"
    transcript = tmp_path / "t.vtt"
    for number, text in (
        ("", "WEBVTT\n"),
        ("/2", ""),
        ("/3", "WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n"),
    ):
        transcript.write_text(text)
        if not text:
            transcript.unlink()
        told = refusal(
            lambda: subtitles.add_subtitles(
                tmp_path / "no.mp4", transcript, tmp_path / "new.mp4", language="eng"
            )
        )
        documented(f"{entry}{number}", told)


@pytest.mark.documents(
    "no-captures-to-transcribe-offline",
    "no-captures-to-transcribe-offline/3",
    "no-captures-to-transcribe-offline/4",
)
def test_what_cannot_be_transcribed_offline(documented: Any, tmp_path: Path) -> None:
    entry = "no-captures-to-transcribe-offline"
    sources = object.__new__(offline._Sources)
    documented(entry, refusal(lambda: sources._add_directory(tmp_path)))
    documented(f"{entry}/3", refusal(lambda: offline._language("english!")))
    index = tmp_path / "a.ogg.index"
    index.write_text("7\n")
    documented(f"{entry}/4", refusal(lambda: _read_index(index)))


@pytest.mark.documents(
    "a-file-beside-the-recording-that-was-not-made",
    "a-file-beside-the-recording-that-was-not-made/2",
)
def test_a_recording_without_a_picture_has_no_poster(
    documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "a-file-beside-the-recording-that-was-not-made"

    class Container:
        def __init__(self, time_base: Fraction | None) -> None:
            stream = SimpleNamespace(time_base=time_base, thread_count=0)
            self.streams = SimpleNamespace(video=[stream])

        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def seek(self, *_: object, **__: object) -> None:
            return None

        def decode(self, stream: object) -> list[object]:
            return []

    for number, time_base in (("", Fraction(1, 90000)), ("/2", None)):
        monkeypatch.setattr(poster.av, "open", lambda *_, base=time_base: Container(base))
        told = refusal(lambda: poster.write_poster(tmp_path / "a.mp4", tmp_path / "a.jpg", at_s=0))
        documented(f"{entry}{number}", told)


@pytest.mark.documents("no-captures-to-transcribe-offline/2")
def test_a_file_without_sound(documented: Any, tmp_path: Path) -> None:
    file = tmp_path / "silent.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    documented("no-captures-to-transcribe-offline/2", refusal(lambda: list(audio._blocks(file))))


@pytest.mark.documents(
    "an-encoder-of-the-graphics-card-that-is-no-good",
    "an-encoder-of-the-graphics-card-that-is-no-good/2",
)
def test_an_encoder_that_does_not_prove_itself(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "an-encoder-of-the-graphics-card-that-is-no-good"
    settings: Any = SimpleNamespace(height_px=64, width_px=64)
    monkeypatch.setattr(encoders, "set_up", lambda context, settings: None)
    for number, packets in (("", []), ("/2", [SimpleNamespace(is_keyframe=False)])):
        context = SimpleNamespace(pix_fmt="yuv420p", encode=lambda frame, given=packets: given)
        monkeypatch.setattr(encoders.av.CodecContext, "create", lambda *_, made=context: made)
        told = refusal(lambda: encoders.prove("h264_nvenc", settings, frames=1))
        documented(f"{entry}{number}", told)


@pytest.mark.documents(
    "a-recordings-file-that-cannot-be-written",
    "a-recordings-file-that-cannot-be-written/2",
    "a-recordings-file-that-cannot-be-written/3",
    "a-recordings-file-that-cannot-be-written/4",
)
def test_a_file_that_cannot_be_written_during_a_call(documented: Any, tmp_path: Path) -> None:
    entry = "a-recordings-file-that-cannot-be-written"
    environ = {
        **dict.fromkeys(("CALL_ID", "POST_ID", "RECORDING_ID", "AUTH_TOKEN"), ID),
        "SITE_URL": "http://127.0.0.1",
    }
    settings = recorder_settings.read_settings(environ)
    path = tmp_path / "no" / "recording.mp4"
    documented(entry, refusal(lambda: Mp4Writer(path, settings)))

    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = object.__new__(Mp4Writer)
    writer.path, writer.frames, writer.key_frames, writer.samples = path, 0, 0, 0
    writer._last_key, writer._closed = None, False
    writer._video = writer._audio = SimpleNamespace(encode=full, flush=full)
    writer._container = SimpleNamespace(close=lambda: None, mux=full)
    grey = np.full((96, 64), 128, np.uint8)
    documented(f"{entry}/2", refusal(lambda: writer.write_picture(grey, ticks=0, duration=1)))
    silence = np.zeros(1024, np.float32)
    documented(f"{entry}/3", refusal(lambda: writer.write_sound(silence)))
    documented(f"{entry}/4", refusal(writer.close))


@pytest.mark.documents("an-upload-that-does-not-fit", "an-upload-that-does-not-fit/2")
async def test_a_server_that_counts_otherwise(documented: Any, tmp_path: Path) -> None:
    async def nothing(*_: object, **__: object) -> Any:
        return None

    async def first(*_: object) -> Any:
        return SimpleNamespace(file_offset_bytes=0)

    async def offset(running: object) -> int:
        return 0

    running: Any = SimpleNamespace(
        at=lambda offset: None,
        size=10,
        path=tmp_path / "a",
        upload_id="u",
        sending=0,
        parts=SimpleNamespace(next_bytes=lambda offset, size: 0),
    )
    uploader: Any = SimpleNamespace(
        _offset=offset,
        _progress=lambda done, total: None,
        _log=SimpleNamespace(info=lambda *_, **__: None),
        _api=SimpleNamespace(send_upload_data=nothing, get_upload=first),
    )
    for number, length in (("", 0), ("/2", 10)):
        running.parts.next_bytes = lambda offset, size, length=length: length
        with pytest.raises(ApiError) as refused:
            await Uploader._go_on(uploader, running)
        documented(f"an-upload-that-does-not-fit{number}", str(refused.value))


@pytest.mark.documents(
    "no-audio-to-transcribe-again",
    "a-transcription-again-that-cannot-be",
    "a-transcription-again-that-cannot-be/2",
    "a-transcription-again-that-cannot-be/3",
)
async def test_a_transcription_again_that_cannot_be(
    documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "a-transcription-again-that-cannot-be"
    environ = {
        **dict.fromkeys(("CALL_ID", "POST_ID", "TRANSCRIPTION_ID"), ID),
        "SITE_URL": "http://127.0.0.1",
        "RETRANSCRIPTION": "again-1",
    }
    wrong = environ | {"LANGUAGES": "klingonese"}
    documented(entry, refusal(lambda: retranscribe._read(wrong)))
    documented(
        f"{entry}/2", refusal(lambda: retranscribe._read(environ | {"RETRANSCRIPTION": "../x"}))
    )
    documented("no-audio-to-transcribe-again", refusal(lambda: retranscribe._kept_voices(tmp_path)))
    posted = SimpleNamespace(posted=True, in_doubt=False)
    monkeypatch.setattr(retranscribe, "_state_of", lambda target: posted)
    monkeypatch.setattr(retranscribe, "_written", lambda target: None)
    wish: Any = SimpleNamespace(settings=None, target=tmp_path)
    with pytest.raises(ValueError, match="cannot be read") as damaged:
        await retranscribe._transcribe_again(wish)
    documented(f"{entry}/3", str(damaged.value))


def _tar(directory: Path, name: str, content: bytes | None) -> Path:
    """A bundle with one member; without content it is a folder."""
    bundle = directory / "track.tar"
    with tarfile.open(bundle, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content or b"")
        if content is None:
            member.type = tarfile.DIRTYPE
        archive.addfile(member, io.BytesIO(content or b""))
    return bundle


@pytest.mark.documents(
    "a-track-that-another-host-could-not-transcribe",
    "a-track-that-another-host-could-not-transcribe/2",
    "a-track-that-another-host-could-not-transcribe/3",
    "a-track-that-another-host-could-not-transcribe/4",
    "a-track-that-another-host-could-not-transcribe/5",
    "a-track-that-another-host-could-not-transcribe/6",
    "a-track-that-another-host-could-not-transcribe/7",
)
def test_bundles_and_results_of_no_use(documented: Any, tmp_path: Path) -> None:
    entry = "a-track-that-another-host-could-not-transcribe"
    for number, content in (("", b"{"), ("/2", b'{"version": 2}'), ("/3", None)):
        bundle = _tar(tmp_path, "task.json", content)
        told = refusal(lambda bundle=bundle: track_bundle.unpack(bundle, tmp_path))
        documented(f"{entry}{number}", told)
    for number, result in ((4, b"{"), (5, b'{"version": 2}')):
        told = refusal(lambda result=result: track_bundle.read_result(result))
        documented(f"{entry}/{number}", told)
    segment: Any = SimpleNamespace(session_id="s", user_id="u", start_ns=5)
    share: Any = SimpleNamespace(sessions=set(), pieces=[])
    documented(f"{entry}/6", refusal(lambda: handover._check([segment], share)))
    share.sessions = {("s", "u")}
    share.pieces = [SimpleNamespace(utterance=SimpleNamespace(onset_ns=7))]
    documented(f"{entry}/7", refusal(lambda: handover._check([segment], share)))


@pytest.mark.documents(
    "a-track-that-another-host-could-not-transcribe/8",
    "a-track-that-another-host-could-not-transcribe/9",
    "a-track-that-another-host-could-not-transcribe/10",
)
async def test_a_door_that_answers_nonsense_or_nothing(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "a-track-that-another-host-could-not-transcribe"
    monkeypatch.setattr(tasks_door, "_RESULT_BYTES", 3)
    async with tasks_door.TasksDoor("http://127.0.0.1:9/tasks", "token") as door:
        with pytest.raises(tasks_door.DoorError) as nothing:
            await door.withdraw("voice-1")
        documented(f"{entry}/10", str(nothing.value))

        async def answer(*_: object, **__: object) -> Any:
            return httpx.Response(200, content=b'{"version": 1}')

        monkeypatch.setattr(door, "_request", answer)
        with pytest.raises(tasks_door.DoorError) as no_tracks:
            await door.look(after=0, wait_s=0)
        documented(f"{entry}/8", str(no_tracks.value))
        with pytest.raises(tasks_door.DoorError) as too_much:
            await door.result("voice-1")
        documented(f"{entry}/9", str(too_much.value))


@pytest.mark.documents("a-job-that-cannot-go-on/5", "a-job-that-cannot-be-finished")
def test_whoever_finishes_a_job_says_why_not(
    documented: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def last() -> str:
        line = json.loads(capsys.readouterr().err.splitlines()[-1])
        return str(line["event"])

    _tar(tmp_path, "task.json", b"{")
    assert track.main(tmp_path, {"MODELS_DIR": str(tmp_path)}, lifeline=None) == 2
    documented("a-job-that-cannot-go-on/5", last())
    directory = tmp_path / ID
    directory.mkdir()
    ids = dict.fromkeys(("CALL_ID", "POST_ID", "RECORDING_ID", "AUTH_TOKEN"), ID)
    environ = {**ids, "SITE_URL": "http://127.0.0.1:9", "DATA_DIR": str(tmp_path)}
    settings = recorder_settings.read_settings(environ)
    directory.rmdir()
    create(settings, base_name="Call")
    with held(settings.directory):
        assert salvage.main(settings.directory, environ) == 1
    documented("a-job-that-cannot-be-finished", last())
