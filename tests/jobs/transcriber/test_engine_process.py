"""An engine in a process of its own may crash, be killed or hang: its pieces are done once more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jobs.transcriber.audio import HeldSound
from jobs.transcriber.capture import TrackIdentity
from jobs.transcriber.engines import child as child_process
from jobs.transcriber.engines.base import EngineError, EngineLoadError, Recognition
from jobs.transcriber.engines.catalogue import find_model
from jobs.transcriber.engines.child import Recipe
from jobs.transcriber.engines.process import EngineProcess, Restarts
from testbed.chaos.victim import children_of

MODELS = Path(__file__).parents[3] / "models"
RECIPE = Recipe(find_model(MODELS, "tiny"), 2, 1, "auto")


_strangers: set[int] = set()


@pytest.fixture(autouse=True)
def strangers() -> None:
    """Other tests of this process may have started servers, or been given orphans."""
    _strangers.clear()
    _strangers.update(children_of(os.getpid()))


def own_children() -> list[int]:
    return [pid for pid in children_of(os.getpid()) if pid not in _strangers]


@pytest.fixture
def restarts() -> Restarts:
    return Restarts()


@pytest.fixture
def engine(restarts: Restarts) -> Iterator[EngineProcess]:
    made = EngineProcess(RECIPE, restarts=restarts)
    yield made
    made.close()
    assert own_children() == []


@pytest.fixture
def sentence(clips) -> np.ndarray:
    sound = HeldSound.read(clips["alice"].path, TrackIdentity("t", "s", "u"))
    return sound.samples(start_ns=0, end_ns=round(clips["alice"].sentences[0].end_s * 1e9))


def child() -> int:
    (pid,) = own_children()
    return pid


class Halted:
    """Calls that are certainly in the hands of the process, which computes nothing."""

    def __init__(self, calls: list[Callable[[], Recognition]]) -> None:
        self._pool = ThreadPoolExecutor(len(calls))
        os.kill(child(), signal.SIGSTOP)
        self.futures: list[Future[Recognition]] = [self._pool.submit(call) for call in calls]

    def sent(self, engine: EngineProcess) -> None:
        while len(engine._children[0]._pending) < len(self.futures):
            threading.Event().wait(0.005)

    def results(self) -> list[Recognition]:
        self._pool.shutdown()
        return [future.result() for future in self.futures]


def test_it_answers_as_the_same_engine_here_and_what_a_kill_interrupts_is_done_once_more(
    engine, restarts, sentence, clips
) -> None:
    def transcribe() -> Recognition:
        return engine.transcribe(sentence, language="en")

    def caption() -> Recognition:
        return engine.hypothesise(sentence, language="en", context_s=10.0, complete=True)

    undisturbed = [transcribe().text, caption().text]
    assert undisturbed == [clips["alice"].sentences[0].text.lower()] * 2
    halted = Halted([transcribe, caption])
    halted.sent(engine)
    os.kill(child(), signal.SIGKILL)
    assert [result.text for result in halted.results()] == undisturbed
    assert restarts.count == 1


def test_a_hanging_call_costs_its_own_piece_and_a_process(
    engine, restarts, sentence, monkeypatch: pytest.MonkeyPatch
) -> None:
    halted = Halted([lambda: engine.transcribe(sentence, language="en")])
    halted.sent(engine)
    monkeypatch.setitem(child_process._LIMITS_S, "hypothesise", 0.05)
    with pytest.raises(EngineError, match=r"no answer within 0\.05 s"):
        engine.hypothesise(sentence[:8000], language="en", context_s=10.0, complete=True)
    assert halted.results()[0].words
    assert restarts.count == 1


@pytest.mark.slow
def test_one_that_does_not_even_take_its_work_is_replaced(
    restarts, sentence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_TAKE_LIMIT_S", 1)
    engine = EngineProcess(RECIPE, restarts=restarts)
    os.kill(child(), signal.SIGSTOP)
    more_than_a_socket_holds = np.concatenate([sentence, np.zeros(20 * 16_000, np.float32)])
    assert engine.transcribe(more_than_a_socket_holds, language="en").words
    assert restarts.count == 1
    engine.close()


@pytest.mark.slow
@pytest.mark.documents("a-speech-engine-that-falls-over")
def test_what_kills_it_again_and_again_is_given_up(
    engine, restarts, sentence, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    ask = child_process.Child.ask

    def deadly(self, method, hints, arguments):
        self._process.kill()
        self._reader.join()
        return ask(self, method, hints, arguments)

    monkeypatch.setattr(child_process.Child, "ask", deadly)
    with pytest.raises(EngineError) as given_up:
        engine.transcribe(sentence, language="en")
    documented("a-speech-engine-that-falls-over", str(given_up.value))
    monkeypatch.setattr(child_process.Child, "ask", ask)
    assert engine.transcribe(sentence, language="en").words
    assert restarts.count == 3


def test_one_that_rests_has_no_process_until_it_is_asked(
    engine: EngineProcess, restarts: Restarts, sentence: np.ndarray
) -> None:
    engine.rest()
    assert own_children() == []
    assert engine.info.model == "whisper-words-ct2"
    assert engine.transcribe(sentence, language="en").words
    assert restarts.count == 0


def test_a_model_that_cannot_be_loaded_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(EngineLoadError, match="cannot load the model in"):
        EngineProcess(Recipe(tmp_path, 1, 1, "auto"))
    assert own_children() == []


_PARENT = """
import sys, time
from pathlib import Path
from jobs.transcriber.engines.child import Recipe
from jobs.transcriber.engines.process import EngineProcess
engine = EngineProcess(Recipe(Path(sys.argv[1]), 1, 1, "auto"))
print(engine._children[0]._process.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_a_parent_that_is_killed_and_not_by_a_polite_signal_to_the_group() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(RECIPE.model_dir)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            signal.pidfd_send_signal(descriptor, signal.SIGINT)
            assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 500
            assert pid in children_of(parent.pid)
            parent.kill()
            # A pidfd is readable when its process has ended.
            ended = threading.Event()
            threading.Thread(target=lambda: (_until_readable(descriptor), ended.set())).start()
            assert ended.wait(20)
        finally:
            os.close(descriptor)


def _until_readable(descriptor: int) -> None:
    import select

    select.select([descriptor], [], [])
