"""Engines behind HTTP, against servers that hold them to the published APIs and fail as services do.

Azure: rest-speech-to-text-short; OpenAI: audio/createTranscription. The server checks each request as the
real one would and refuses what it would refuse.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from callclient.events import JobStopRequested
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext
from jobs.status import StatusReporter
from jobs.transcriber.engines import service
from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    EngineLoadError,
    Recognition,
    SpeechEngine,
    Word,
)
from jobs.transcriber.engines.catalogue import connect_engine
from jobs.transcriber.engines.fallback import FallbackEngine
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.engines.remote_options import RemoteOptions, read_options
from jobs.transcriber.engines.throttle import Throttle
from jobs.transcriber.job import TranscriberJob
from jobs.transcriber.models import check_models, hints_of, load_models, load_transcript_engine
from jobs.transcriber.settings import TranscriberSettings

KEY = "a-secret-key-0123456789"
SPEECH = (0.2 * np.sin(np.arange(32_000) / 9)).astype(np.float32)
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    fields: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    """Of audio."""


class SpeechServer:
    """Answers from `script` while there is something in it, then with `answer`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: list[Answer] = []
        self.answer: Callable[[Request], Answer] = lambda _: (404, {}, b"")
        self.requests: list[Request] = []
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def respond(self, request: Request) -> Answer:
        with self.lock:
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            scripted = self.script.pop(0) if self.script else None
        time.sleep(self.delay_s)
        with self.lock:
            self.at_once -= 1
        return scripted if scripted is not None else self.answer(request)


def _wav_seconds(content: bytes) -> float:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return file.getnframes() / 16_000


def _json(document: object, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def azure(request: Request) -> Answer:
    """The service for short audio as it is documented."""
    if request.path != "/speech/recognition/conversation/cognitiveservices/v1":
        return 404, {}, b""
    if request.headers.get("ocp-apim-subscription-key") != KEY:
        return 401, {}, b""
    wanted = "audio/wav; codecs=audio/pcm; samplerate=16000"
    language = request.query.get("language", [""])[0]
    if request.headers.get("content-type") != wanted or "-" not in language:
        return 400, {}, b""
    request.seconds = _wav_seconds(request.body)
    if request.seconds > 60 or request.query.get("format") != ["detailed"]:
        return 400, {}, b""
    words = [
        {"Word": "thirty", "Offset": 2_000_000, "Duration": 3_000_000},
        {"Word": "two", "Offset": 5_000_000, "Duration": 2_000_000},
        {"Word": "people", "Offset": 8_000_000, "Duration": 4_000_000},
        {"Word": "agree", "Offset": 13_000_000, "Duration": 5_000_000},
    ]
    best = {"Confidence": 0.92, "Lexical": "thirty two people agree", "ITN": "32 people agree"}
    best |= {"MaskedITN": "32 people agree", "Display": "32 people agree.", "Words": words}
    worse = {"Confidence": 0.4, "Lexical": "dirty", "Display": "Dirty.", "Words": []}
    return _json(
        {
            "RecognitionStatus": "Success",
            "Offset": 2_000_000,
            "Duration": 16_000_000,
            "NBest": [worse, best],
        }
    )


def openai(request: Request) -> Answer:
    """`POST /v1/audio/transcriptions` as it is documented."""
    if request.path != "/v1/audio/transcriptions":
        return 404, {}, b""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return _json({"error": {"message": "Incorrect API key", "type": "auth"}}, 401)
    message = BytesParser().parsebytes(
        b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + request.body
    )
    content = b""
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        if name == "file":
            content = part.get_payload(decode=True)
            assert part.get_filename().endswith(".wav")
        else:
            value = part.get_payload(decode=True).decode()
            request.fields.setdefault(name, []).append(value)
    request.seconds = _wav_seconds(content)
    kind = request.fields.get("response_format", ["json"])[0]
    if "model" not in request.fields:
        return _json({"error": {"message": "you must provide a model parameter"}}, 400)
    granular = "timestamp_granularities[]" in request.fields
    if kind != "verbose_json" and granular:
        return _json({"error": {"message": "response_format must be verbose_json"}}, 400)
    if kind == "json":
        return _json({"text": "Hello, everyone."})
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 1.6, "text": " Hello, everyone."}
    segment |= {"tokens": [1, 2], "temperature": 0.0, "avg_logprob": -0.25}
    segment |= {"compression_ratio": 0.9, "no_speech_prob": 0.02}
    words = [
        {"word": "Hello", "start": 0.1, "end": 0.5},
        {"word": "everyone", "start": 0.6, "end": 1.4},
    ]
    text = "Hello, everyone."
    document = {"task": "transcribe", "language": "german", "duration": 2.0, "text": text}
    return _json({**document, "segments": [segment], "words": words})


@pytest.fixture
def server() -> Iterator[SpeechServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(parts.path, parse_qs(parts.query), headers, body)
            status, answer_headers, content = known.respond(request)
            if status == 0:  # hangs up without a word
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in answer_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    known = SpeechServer(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield known
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, as waiting takes no time here."""
    monkeypatch.setattr(service, "_BACKOFF", service.Backoff(5, 1.0, jitter=0.0))
    return []


def connect(
    server: SpeechServer,
    api: str = "openai/whisper",
    *,
    waits: list[float] | None = None,
    timeout_s: int = 5,
    **options: object,
) -> SpeechEngine:
    if api == "azure":
        server.answer = azure
        document = {"AZURE_SPEECH_KEY": KEY, "AZURE_SPEECH_ENDPOINT": server.url}
    else:
        server.answer = openai
        document = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{server.url}/v1"}
    text = json.dumps({**document, "SPEECH_TIMEOUT_S": timeout_s, **options})
    hints = CallHints(vocabulary=["Kubernetes"])
    waited = [] if waits is None else waits
    return connect_engine(read_options(api, text), hints=hints, sleep=waited.append)


# what is asked and what is made of the answer


def test_azure_gets_what_it_wants_and_its_words_get_their_times(server: SpeechServer) -> None:
    result = connect(server, "azure").transcribe(SPEECH, language="de")
    assert server.requests[0].query["language"] == ["de-DE"]
    assert server.requests[0].seconds == 2.0
    assert result.text == "32 people agree."
    assert result.language == "de"
    times = [(word.start_s, round(word.end_s, 3)) for word in result.words]
    assert times == [(0.2, 0.8), (0.8, 1.2), (1.3, 1.8)]
    assert result.words[1].probability == 0.92
    assert result.mean_log_probability == pytest.approx(np.log(0.92))


@pytest.mark.parametrize(
    ("language", "locale"),
    [(None, "en-US"), ("en", "en-US"), ("de-AT", "de-AT"), ("pt", "pt-BR"), ("fr", "fr-FR")],
)
def test_azure_is_told_locales(server: SpeechServer, language: str | None, locale: str) -> None:
    connect(server, "azure").transcribe(SPEECH, language=language)
    assert server.requests[0].query["language"] == [locale]


def test_azure_without_word_times_spreads_the_words(server: SpeechServer) -> None:
    engine = connect(server, "azure")
    best = {"Confidence": 0.9, "Lexical": "good morning", "Display": "Good morning."}
    server.script = [
        _json(
            {
                "RecognitionStatus": "Success",
                "Offset": 1_000_000,
                "Duration": 10_000_000,
                "NBest": [best],
            }
        )
    ]
    words = engine.transcribe(SPEECH, language="en").words
    assert [word.text for word in words] == ["Good", "morning."]
    assert words[0].start_s == pytest.approx(0.1)
    assert words[0].end_s == words[1].start_s
    assert words[1].end_s == pytest.approx(1.1)


@pytest.mark.parametrize("status", ["NoMatch", "InitialSilenceTimeout", "BabbleTimeout"])
def test_azure_hearing_nothing_is_no_failure(server: SpeechServer, status: str) -> None:
    engine = connect(server, "azure")
    server.script = [_json({"RecognitionStatus": status, "Offset": 0, "Duration": 0})]
    assert engine.transcribe(SPEECH, language="en").words == ()


def test_openai_gets_what_it_wants_and_its_words_get_their_times(server: SpeechServer) -> None:
    result = connect(server, OPENAI_MODEL="large-v3").transcribe(SPEECH, language="de-AT")
    request = server.requests[0]
    assert request.fields == {
        "model": ["large-v3"],
        "response_format": ["verbose_json"],
        "temperature": ["0"],
        "timestamp_granularities[]": ["word", "segment"],
        "language": ["de"],
        "prompt": ["Kubernetes"],
    }
    assert result == Recognition(
        words=(
            Word("Hello,", 0.1, 0.5, pytest.approx(np.exp(-0.25))),
            Word("everyone.", 0.6, 1.4, pytest.approx(np.exp(-0.25))),
        ),
        language="de",
        mean_log_probability=-0.25,
        compression_ratio=0.9,
        no_speech_probability=0.02,
    )


def test_openai_finds_the_language_out(server: SpeechServer) -> None:
    assert connect(server).transcribe(SPEECH, language=None).language == "de"
    assert "language" not in server.requests[0].fields


def test_openais_models_without_word_times_are_not_asked_for_them(server: SpeechServer) -> None:
    engine = connect(server, OPENAI_MODEL="gpt-4o-mini-transcribe")
    words = engine.transcribe(SPEECH, language="en").words
    assert [word.text for word in words] == ["Hello,", "everyone."]
    assert words[-1].end_s == 2.0


def test_a_compatible_server_may_leave_out_what_it_does_not_know(server: SpeechServer) -> None:
    engine = connect(server)
    server.script = [
        _json({"text": " one two", "segments": [{"start": 0.5, "end": 1.5, "text": " one two"}]})
    ]
    result = engine.transcribe(SPEECH, language="en")
    assert [(w.text, w.start_s, w.end_s) for w in result.words] == [
        ("one", 0.5, 1.0),
        ("two", 1.0, 1.5),
    ]


def test_silence_is_not_sent_anywhere(server: SpeechServer) -> None:
    engine = connect(server)
    assert engine.transcribe(np.zeros(32_000, np.float32), language="en").words == ()
    assert server.requests == []


def test_captions_only_where_the_engine_says_that_it_can(server: SpeechServer) -> None:
    slow, quick = connect(server), connect(server, OPENAI_CAPTIONS=True)
    assert not slow.info.captions
    assert not connect(server, "azure").info.captions
    assert quick.info.captions
    server.answer = openai
    heard = quick.hypothesise(SPEECH, language="en", context_s=10, complete=False)
    assert heard.text == "Hello, everyone."
    with pytest.raises(EngineError, match="no live captions"):
        slow.hypothesise(SPEECH, language="en", context_s=10, complete=False)


# failures


@pytest.mark.parametrize("status", [0, 408, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("api", ["azure", "openai/whisper"])
def test_what_may_be_different_later_is_tried_again(
    server: SpeechServer, waits: list[float], api: str, status: int
) -> None:
    engine = connect(server, api, waits=waits)
    server.script = [(status, {}, b"")] * 2
    assert engine.transcribe(SPEECH, language="en").words
    assert len(server.requests) == 3
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415])
@pytest.mark.parametrize("api", ["azure", "openai/whisper"])
def test_what_fails_always_is_tried_once(server: SpeechServer, api: str, status: int) -> None:
    engine = connect(server, api)
    server.script = [(status, {}, b"")]
    with pytest.raises(EngineError, match=f"^{api}: status {status}$"):
        engine.transcribe(SPEECH, language="en")
    assert len(server.requests) == 1


def test_a_service_says_how_long_to_leave_it_alone(
    server: SpeechServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(server)
    throttle = engine._engine._service._throttle
    pauses: list[float] = []
    monkeypatch.setattr(throttle, "pause", pauses.append)
    date = formatdate(time.time() + 20, usegmt=True)
    server.script = [
        (429, {"Retry-After": "7"}, b""),
        (429, {"Retry-After": date}, b""),
        (503, {"Retry-After": "86400"}, b""),
        (429, {"Retry-After": "soon"}, b""),
        (429, {}, b""),
    ]
    assert engine.transcribe(SPEECH, language="en").words
    assert pauses[0] == 7
    assert 15 < pauses[1] <= 20
    assert pauses[2:] == [60, 0, 0]


@pytest.mark.documents("a-speech-service-that-refuses")
def test_too_many_requests_is_waited_out_longer_than_an_error(
    server: SpeechServer, documented
) -> None:
    engine = connect(server)
    server.script = [(429, {}, b"")] * 19
    assert engine.transcribe(SPEECH, language="en").words
    server.script = [(429, {}, b"")] * 20
    with pytest.raises(EngineError) as refused:
        engine.transcribe(SPEECH, language="en")
    documented("a-speech-service-that-refuses", str(refused.value))


def test_a_service_that_is_down_costs_its_patience_once(server: SpeechServer) -> None:
    engine = connect(server)
    server.script = [(500, {}, b"")] * 7
    for _ in range(3):
        with pytest.raises(EngineError, match="status 500"):
            engine.transcribe(SPEECH, language="en")
    assert len(server.requests) == 5 + 1 + 1
    assert engine.transcribe(SPEECH, language="en").words  # it is back
    server.script = [(500, {}, b"")] * 4
    assert engine.transcribe(SPEECH, language="en").words


@pytest.mark.documents("a-speech-service-that-refuses/2")
def test_an_answer_that_does_not_come_is_given_up(server: SpeechServer, documented) -> None:
    engine = connect(server, timeout_s=1)
    engine._engine._service._down = True
    server.delay_s = 1.5
    with pytest.raises(EngineError) as late:
        engine.transcribe(SPEECH, language="en")
    documented("a-speech-service-that-refuses/2", str(late.value))


def test_nobody_there() -> None:
    options = RemoteOptions("openai/whisper", "http://127.0.0.1:1/v1", KEY, model="m")
    waits: list[float] = []
    engine = connect_engine(options, hints=CallHints(), sleep=waits.append)
    with pytest.raises(EngineError, match=r"^openai/whisper: no answer \(ConnectError\)$"):
        engine.transcribe(SPEECH, language="en")


@pytest.mark.parametrize("api", ["azure", "openai/whisper"])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"text": null, "words": 3}']
)
def test_an_answer_that_makes_no_sense_costs_the_piece(
    server: SpeechServer, api: str, body: bytes
) -> None:
    engine = connect(server, api)
    server.script = [(200, {}, body)]
    with pytest.raises(EngineError, match=f"^{api}: "):
        engine.transcribe(SPEECH, language="en")


@pytest.mark.parametrize(
    ("api", "body"),
    [
        pytest.param(
            "openai/whisper",
            b"<html>",
            marks=pytest.mark.documents("a-speech-service-that-refuses/3"),
        ),
        pytest.param(
            "openai/whisper",
            b'{"text": null, "words": 3}',
            marks=pytest.mark.documents("a-speech-service-that-refuses/4"),
        ),
        pytest.param(
            "azure", b"{}", marks=pytest.mark.documents("a-speech-service-that-refuses/5")
        ),
        pytest.param(
            "azure",
            b'{"RecognitionStatus": "BadRequest"}',
            marks=pytest.mark.documents("a-speech-service-that-refuses/6"),
        ),
    ],
)
def test_what_makes_no_sense_is_told_without_what_it_was(
    server: SpeechServer, api: str, body: bytes, documented
) -> None:
    engine = connect(server, api)
    server.script = [(200, {}, body)]
    with pytest.raises(EngineError) as refused:
        engine.transcribe(SPEECH, language="en")
    documented.marked(str(refused.value))


def test_a_redirect_does_not_get_the_key(server: SpeechServer) -> None:
    engine = connect(server)
    server.script = [(307, {"Location": f"{server.url}/elsewhere"}, b"")]
    with pytest.raises(EngineError, match="status 307"):
        engine.transcribe(SPEECH, language="en")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [0, 200, 401, 500])
def test_neither_keys_nor_words_get_into_logs_or_messages(
    server: SpeechServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    caplog.set_level(logging.INFO)
    engine = connect(server)
    server.script = [(status, {}, f'{{"error": "{KEY} spoken words"}}'.encode())] * 5
    with pytest.raises(EngineError) as raised:
        engine.transcribe(SPEECH, language="en")
    shown = "".join(capsys.readouterr()) + caplog.text + str(raised.value) + repr(raised.value)
    for secret in (KEY, "spoken", "Kubernetes"):
        assert secret not in shown
    assert raised.value.__cause__ is None


# limits


def test_no_more_requests_at_once_than_allowed(server: SpeechServer) -> None:
    engine = connect(server, SPEECH_MAX_REQUESTS=2)
    assert engine.info.workers == 2
    server.delay_s = 0.05
    threads = [
        threading.Thread(target=engine.transcribe, args=(SPEECH,), kwargs={"language": "en"})
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 6
    assert server.most_at_once == 2


def test_no_more_requests_in_a_minute_than_allowed_and_pauses_are_everybodys() -> None:
    now_s, waited = 100.0, []
    throttle = Throttle(at_once=9, per_minute=2, now_s=lambda: now_s, sleep=waited.append)

    def ask() -> None:
        with throttle.turn():
            pass

    for _ in range(5):
        ask()
    assert waited == [60, 60, 120]
    now_s = 500.0
    throttle.pause(10)
    ask()
    assert waited[3:] == [10]
    now_s = 511.0
    ask()
    assert len(waited) == 4


# the substitute


class LocalEngine:
    info = EngineInfo("local", "base", "cpu", "int8", 1, 1, multilingual=True)

    def transcribe(self, audio, *, language) -> Recognition:
        return Recognition((Word("local", 0, 1, 1.0),), language or "en")


def test_what_a_service_does_not_do_is_done_here(server: SpeechServer) -> None:
    loaded: list[LocalEngine] = []

    def load() -> LocalEngine:
        loaded.append(LocalEngine())
        return loaded[-1]

    engine = FallbackEngine(connect(server), load)
    assert engine.transcribe(SPEECH, language="en").text == "Hello, everyone."
    assert loaded == []  # it costs no memory while it is not needed
    server.script = [(401, {}, b""), (400, {}, b"")]
    assert [engine.transcribe(SPEECH, language="en").text for _ in range(3)] == [
        "local",
        "local",
        "Hello, everyone.",
    ]
    assert len(loaded) == 1
    assert engine.pieces == 2
    assert engine.info.remote


# in a job


@pytest.fixture
def job_settings(tmp_path: Path, server: SpeechServer) -> TranscriberSettings:
    server.answer = openai
    letters = "abcdefghijklmnopqrstuvwxy"
    return TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=letters + "c",
        post_id=letters + "p",
        job_id=letters + "t",
        auth_token=letters + "s",
        data_dir=tmp_path,
        models_dir=Path(__file__).parents[3] / "models",
        live_captions_on=True,
        live_captions_threads=1,
        publish_after_s=0,
        transcribe_api="openai/whisper",
        transcribe_api_options=json.dumps(
            {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{server.url}/v1"}
        ),
    )


async def _run_job(settings: TranscriberSettings, api, peer, clip, meanwhile=None) -> None:
    context = JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "transcribing"),
        shutdown=Shutdown(),
        log=get_logger(),
    )
    running = asyncio.create_task(TranscriberJob(context, settings, peer=peer).run())
    peer.begin()
    async with asyncio.timeout(25):
        while not api.statuses:
            await asyncio.sleep(0.01)
        peer.say(peer.add_voice("bob"), clip.packets(start_ns=1_000_000_000))
        if meanwhile is not None:
            await meanwhile()
        else:
            await peer.until_taken()
        peer.emit(JobStopRequested())
        await running


async def test_a_request_that_fails_costs_its_segment_and_nothing_else(
    server: SpeechServer, job_settings: TranscriberSettings, api, peer, clips
) -> None:
    server.script = [(400, {}, b"")]
    await _run_job(job_settings, api, peer, clips["bob"])
    cues = api.vtt.split("\n\n")[1:]
    assert sum("[inaudible]" in cue for cue in cues) == 1
    assert sum("Hello, everyone." in cue for cue in cues) == 3
    assert all("Bob Test" in request.fields["prompt"][0] for request in server.requests[1:])
    assert "Town Square" in server.requests[1].fields["prompt"][0]


async def test_captions_do_not_wait_for_a_slow_service(
    server: SpeechServer, job_settings: TranscriberSettings, api, peer, clips
) -> None:
    """They have one worker here, and every request hangs until carol's last sentence is captioned."""
    captioned = threading.Event()

    def hang(request: Request) -> Answer:
        assert captioned.wait(25)
        return openai(request)

    server.answer = hang

    async def until_captioned() -> None:
        while not server.requests:
            await asyncio.sleep(0.01)
        peer.say(peer.add_voice("carol"), clips["carol"].packets(start_ns=1_000_000_000))
        while ("session-carol", clips["carol"].sentences[-1].text) not in peer.captions:
            await asyncio.sleep(0.01)
        captioned.set()

    try:
        await _run_job(job_settings, api, peer, clips["bob"], until_captioned)
    finally:
        captioned.set()
    assert api.vtt.count("Hello, everyone.") == 8


async def test_a_job_falls_back_to_its_local_model(
    server: SpeechServer, job_settings: TranscriberSettings, api, peer, clips
) -> None:
    server.answer = lambda _: (401, {}, b"")
    settings = replace(job_settings, fallback_model="base", live_captions_on=False)
    await _run_job(settings, api, peer, clips["bob"])
    assert "hello alice" in api.vtt
    assert "[inaudible]" not in api.vtt


def test_only_the_models_that_are_needed_have_to_be_there(
    job_settings: TranscriberSettings, tmp_path: Path
) -> None:
    bare = replace(job_settings, models_dir=tmp_path)
    with pytest.raises(EngineLoadError, match="no model 'tiny'"):
        check_models(bare)
    check_models(replace(bare, live_captions_on=False))
    with pytest.raises(EngineLoadError, match="no model 'base'"):
        check_models(replace(bare, live_captions_on=False, fallback_model="base"))
    near = json.dumps({"OPENAI_BASE_URL": "http://gpu/v1", "OPENAI_CAPTIONS": True})
    nothing = replace(bare, transcribe_api_options=near)
    check_models(nothing)
    models = load_models(nothing)
    assert models.captions is models.transcript
    assert models.transcript.info.remote


def test_a_dead_jobs_transcript_is_finished_here_without_its_keys(
    job_settings: TranscriberSettings,
) -> None:
    kept = TranscriberSettings.from_document(
        job_settings.to_document(),
        auth_token=job_settings.auth_token,
        directory=job_settings.directory,
    )
    assert KEY not in json.dumps(job_settings.to_document())
    engine = load_transcript_engine(kept, hints=hints_of(kept))
    assert not engine.info.remote
    again = replace(kept, transcribe_api_options=job_settings.transcribe_api_options)
    assert load_transcript_engine(again, hints=hints_of(again)).info.remote
