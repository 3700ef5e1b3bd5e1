"""An engine's process that cannot be started again, that others end, and that is no longer wanted."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from jobs.transcriber.engines import child as child_process
from jobs.transcriber.engines import process
from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    EngineLoadError,
    EngineUnavailable,
    Recognition,
)
from jobs.transcriber.engines.child import Child, Died, Recipe, without_secrets
from jobs.transcriber.engines.fallback import FallbackEngine
from jobs.transcriber.engines.guards import GuardedEngine
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.engines.process import EngineProcess
from jobs.transcriber.models import Models, ModelsInUse

RECIPE = Recipe(Path("nowhere"), 1, 1, "auto")
SOUND = np.ones(1600, np.float32)
INFO = EngineInfo("fake", "fake", "cpu", "none", 1, 1, multilingual=False)
TEXT = Recognition((), "en")
NO_MEMORY = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
DIED = EngineLoadError("the engine's process ended while it loaded the model")


class Script:
    """What becomes of each start after the first, and of each request."""

    def __init__(self) -> None:
        self.starts: list[Exception | None] = []
        self.answers: list[Exception | Recognition] = []
        self.children: list[FakeChild] = []


class FakeChild:
    exit_code = -9

    def __init__(self, script: Script) -> None:
        self.dead = self.killed = self.ended = False
        self._script = script
        self._failure = script.starts.pop(0) if script.children and script.starts else None
        script.children.append(self)
        if isinstance(self._failure, OSError):
            raise self._failure

    def load(self, recipe: Recipe, *, limit_s: float) -> EngineInfo:
        if self._failure is not None:
            self.dead = True
            raise self._failure
        return INFO

    def ask(self, method: str, hints: Any, arguments: Any) -> Recognition:
        answer = self._script.answers.pop(0) if self._script.answers else TEXT
        if isinstance(answer, Exception):
            self.dead = isinstance(answer, Died)
            raise answer
        return answer

    def kill(self) -> None:
        self.killed = True

    def end(self) -> None:
        self.ended = True


class Pauses(threading.Event):
    """Passes at once, and remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.taken.append(timeout)
        return self.is_set()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(process, "Child", lambda: FakeChild(script))
    return script


@pytest.fixture
def engine(script: Script) -> EngineProcess:
    made = EngineProcess(RECIPE)
    made._closing = Pauses()
    return made


def transcribe(engine: Any) -> Recognition:
    result: Recognition = engine.transcribe(SOUND, language="en")
    return result


@pytest.mark.parametrize("failure", [DIED, NO_MEMORY])
def test_a_start_that_fails_is_tried_again_with_a_pause(engine, script, failure) -> None:
    script.answers = [Died()]
    script.starts = [failure]
    assert transcribe(engine) is TEXT
    assert engine._closing.taken == [0.5]


@pytest.mark.documents("a-part-of-a-job-that-fails/3", "a-part-of-a-job-that-fails/4")
def test_an_engine_that_cannot_be_started_again_is_no_fault_of_the_piece(
    engine, script, documented
) -> None:
    script.answers = [Died()]
    script.starts = [DIED, NO_MEMORY] * 4
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(EngineUnavailable):
                transcribe(engine)
    documented("a-part-of-a-job-that-fails/3", lines[0]["event"])
    documented("a-part-of-a-job-that-fails/4", lines[1]["event"])
    assert engine._closing.taken == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    script.starts = []
    assert transcribe(engine) is TEXT
    script.answers = [Died()]
    assert transcribe(engine) is TEXT
    assert len(engine._closing.taken) == 8, "a start that succeeded begins anew"


@pytest.mark.documents("a-speech-engine-that-falls-over/2")
def test_deaths_by_other_calls_do_not_count_against_a_piece(engine, script, documented) -> None:
    script.answers = [Died(by_other_call=True)] * 5 + [Died()] * 2
    assert transcribe(engine) is TEXT
    script.answers = [Died(by_other_call=True)] * 100
    with pytest.raises(EngineUnavailable) as interrupted:
        transcribe(engine)
    documented("a-speech-engine-that-falls-over/2", str(interrupted.value))


def test_one_that_is_closed_is_not_started_again(engine, script) -> None:
    engine.close()
    engine.close()
    assert [child.ended for child in script.children] == [True]
    script.answers = [Died()]
    with pytest.raises(EngineError, match="closed"):
        transcribe(engine)
    assert len(script.children) == 1


def test_one_that_is_forgotten_is_killed_without_waiting_for_it(script) -> None:
    engine = EngineProcess(RECIPE)
    (child,) = script.children
    del engine
    gc.collect()
    assert (child.killed, child.ended) == (True, False)


class Held:
    """An engine that has to be closed."""

    info = INFO

    def __init__(self, *, fails: bool = False) -> None:
        self.closed = 0
        self._fails = fails

    def transcribe(self, audio: Any, *, language: str | None) -> Recognition:
        if self._fails:
            raise EngineError("HTTP 503")
        return TEXT

    def close(self) -> None:
        self.closed += 1


def models_of(transcript: Any, captions: Any = None) -> Models:
    return Models(transcript, captions, None, 1)


def test_models_close_what_their_engines_hold_whoever_wraps_them() -> None:
    service, substitute, captions = Held(fails=True), Held(), Held()
    fallback = FallbackEngine(service, lambda: substitute)
    transcribe(fallback)
    models_of(GuardedEngine(fallback), GuardedEngine(captions)).close()
    assert (service.closed, substitute.closed, captions.closed) == (1, 1, 1)
    with pytest.raises(EngineError, match="closed"):
        transcribe(fallback)


def test_models_that_come_when_nobody_waits_any_more_are_closed() -> None:
    early, late = Held(), Held()
    models = ModelsInUse()
    models.load(lambda: models_of(early))
    models.close()
    assert early.closed == 1
    models = ModelsInUse()

    def load() -> Models:
        models.close()  # the job has ended meanwhile
        return models_of(late)

    models.load(load)
    assert late.closed == 1


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A real process, which is never told to load anything."""
    monkeypatch.setenv("AUTH_TOKEN", "a secret")
    made = Child()
    made._reader.start()
    made._reads = True
    yield made
    made.end()


@pytest.mark.documents(
    "a-model-that-does-not-load-in-time",
    "a-model-that-does-not-load-in-time/2",
    "a-model-that-does-not-load-in-time/3",
)
def test_a_model_that_is_not_loaded_is_told_with_its_place(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "a-model-that-does-not-load-in-time"
    for number, limit_s in (("", 0.0), ("/2", 20.0)):
        starting = Child()
        if number:
            starting.kill()
        with pytest.raises(EngineLoadError) as failed:
            starting.load(RECIPE, limit_s=limit_s)
        starting.end()
        documented(f"{entry}{number}", str(failed.value))

    def no_process() -> None:
        raise NO_MEMORY

    monkeypatch.setattr(process, "Child", no_process)
    with pytest.raises(EngineLoadError) as failed:
        EngineProcess(RECIPE)
    documented(f"{entry}/3", str(failed.value))


def test_a_process_is_out_of_reach_of_signals_from_its_first_moment_and_knows_no_secret(
    child: Child,
) -> None:
    status = Path(f"/proc/{child.pid}/status").read_text()
    masks = [
        int(line.split()[1], 16) for line in status.splitlines() if line[:6] in ("SigBlk", "SigIgn")
    ]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert (masks[0] | masks[1]) >> (number - 1) & 1
        assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert os.getpgid(child.pid) == child.pid
    assert Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")[1] == b"-P"
    assert b"a secret" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_a_call_that_gets_no_answer_tells_the_others_that_it_was_not_their_fault(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    monkeypatch.setitem(child_process._LIMITS_S, "hypothesise", 0.02)
    with ThreadPoolExecutor(1) as pool:
        piece = pool.submit(child.ask, "transcribe", CallHints().now, {})
        while not child._pending:
            threading.Event().wait(0.005)
        with pytest.raises(EngineError, match="no answer within"):
            child.ask("hypothesise", CallHints().now, {})
        with pytest.raises(Died) as caught:
            piece.result(20)
    assert caught.value.by_other_call


def test_secrets_are_told_from_other_variables() -> None:
    secret = ["AUTH_TOKEN", "AUTH_TOKEN_FILE", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"]
    secret += ["AZURE_SPEECH_KEY", "OPENAI_API_KEY", "SPEECH_API_KEY", "TRANSCRIBE_API_OPTIONS"]
    secret += ["HTTPS_PROXY", "https_proxy"]
    harmless = ["PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "LOG_LEVEL"]
    assert set(without_secrets(dict.fromkeys([*secret, *harmless], "x"))) == set(harmless)


_LOADS_FOR_A_MINUTE = """
import time
from jobs.transcriber.engines import process_main
process_main._load = lambda recipe, hints: time.sleep(60)
process_main.main()
"""


def test_a_process_ends_with_its_parent_also_while_it_loads() -> None:
    ours, theirs = Pipe()
    with theirs:
        program = [sys.executable, "-c", _LOADS_FOR_A_MINUTE, str(theirs.fileno())]
        loading = subprocess.Popen(program, pass_fds=(theirs.fileno(),))
    try:
        ours.send(RECIPE)
        ours.close()
        assert loading.wait(25) == 0
    finally:
        loading.kill()
        loading.wait()
