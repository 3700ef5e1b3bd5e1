"""`python -m jobs.transcriber.engines.process_main FD`: the engine's side of `process`.

FD is a socket that the parent has left open.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foundation.logs import configure_logs
from jobs.transcriber.engines.base import EngineError, SpeechEngine
from jobs.transcriber.engines.child import HELD_BACK, Answer, Recipe, Request
from jobs.transcriber.engines.hints import CallHints

if TYPE_CHECKING:
    from typing import NoReturn

_OUT_OF_MEMORY_SCORE: Final = "500"
"""proc(5), oom_score_adj: what can be started again goes before what holds people's voices."""


def main() -> NoReturn:
    """Ends when the other end of the socket is closed, at whatever it is."""
    # Whoever made this process decides when it ends, also when a signal goes to all of a group.
    for number in HELD_BACK:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    configure_logs(level=os.environ.get("LOG_LEVEL") or "info")
    _go_first()
    connection = Connection(int(sys.argv[1]))
    watching = threading.Thread(
        target=_end_with_parent, args=(connection.fileno(),), name="parent", daemon=True
    )
    watching.start()
    hints = CallHints()
    recipe: Recipe = connection.recv()
    try:
        engine = _load(recipe, hints)
    except EngineError as error:
        connection.send(str(error))
        os._exit(1)
    connection.send(engine.info)
    sending = threading.Lock()
    with ThreadPoolExecutor(recipe.workers, thread_name_prefix="engine") as pool:
        while True:
            try:
                request: Request = connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # not after what is being computed: nobody waits for it
            hints.told(request.hints)
            pool.submit(_answer, engine, request, connection, sending)


def _load(recipe: Recipe, hints: CallHints) -> SpeechEngine:
    from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine

    return FasterWhisperEngine(
        recipe.model_dir,
        workers=recipe.workers,
        threads_per_worker=recipe.threads_per_worker,
        compute_type=recipe.compute_type,
        hints=hints,
    )


def _answer(
    engine: SpeechEngine, request: Request, connection: Connection, sending: threading.Lock
) -> None:
    try:
        result = getattr(engine, request.method)(**request.arguments)
        answer = Answer(request.number, result)
    except EngineError as error:
        answer = Answer(request.number, None, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
        answer = Answer(request.number, None, type(error).__name__)
    try:
        with sending:
            connection.send(answer)
    except OSError:
        os._exit(0)


def _end_with_parent(descriptor: int) -> None:
    """Also while the model loads, when nobody reads: that may take minutes."""
    hung_up = select.poll()
    hung_up.register(descriptor, select.POLLRDHUP)
    hung_up.poll()
    os._exit(0)


def _go_first() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE, encoding="ascii")
    except OSError:
        return  # only the choice is lost


if __name__ == "__main__":
    main()
