"""Celery's worker in a thread of its own: it takes messages, everything else happens on the event loop.

Neither its command line nor its child processes nor its signal handlers nor its logging are used: the process
is ours, and its jobs must outlive whatever Celery does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celery import Celery, bootsteps
from celery.concurrency.thread import TaskPool
from celery.exceptions import Reject, WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.consumer.control import Control
from kombu.asynchronous import set_event_loop

from foundation.logs import get_logger
from offloader.backends.celery.app import durable_queue
from offloader.worker.lanes import Lane, Take, Verdict
from offloader.worker.quiet import quiet_celery

_CLOSED_S: Final = 2.0
_JOIN_S: Final = 8.0
"""For a broker that does not answer a farewell."""
_RETRY_MAX_S: Final = 3.0
"""Between two attempts to reach the broker; whoever waits for a launch waits 10 s."""
_AGAIN_S: Final = 5.0
_MAKING: Final = threading.Lock()
"""A worker takes its loop from a variable of Celery's process."""

log = get_logger()


class CeleryThread:
    """`start` once, `stop` once, both on the event loop, as is everything else that has no other remark."""

    def __init__(
        self,
        app: Celery,
        *,
        node_name: str,
        lanes: Sequence[Lane],
        commands: Mapping[str, Callable[[Mapping[str, Any]], Any]],
    ) -> None:
        """`commands`: what is answered to Celery's remote control, and nothing else is; called in the thread
        with the arguments that came.
        All lanes are closed at first."""
        self._app = app
        self._node_name = node_name
        self._lanes = {lane.name: lane for lane in lanes}
        self._commands = commands
        self._open: set[str] = set()
        """Names of lanes; read in the thread."""
        self._threads = sum(lane.at_once for lane in lanes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="celery", daemon=True)
        self._ending = False
        """No lane is opened and nothing is begun any more; changed on the event loop."""
        self._stopping = threading.Event()
        """The thread is to end."""
        self._consumer: Any = None
        self._told_unreachable = False
        self._works: set[asyncio.Task[Verdict]] = set()
        self.connected = False
        """Whether messages are being taken; changed in the thread."""

    def start(self) -> None:
        """Connect, now or as soon as there is a broker."""
        self._loop = asyncio.get_running_loop()
        quiet_celery()
        for lane in self._lanes.values():
            self._register(lane.task, lane.take)
        self._app.finalize()
        # Celery's own, by which a message would have a worker run or send others.
        for name in [name for name in self._app.tasks if name.startswith("celery.")]:
            self._app.tasks.unregister(name)
        step = type("Keeper", (_Keeper,), {"owner": self})
        self._app.steps["consumer"].add(step)
        self._thread.start()

    def open(self, name: str) -> None:
        """Take messages of that lane from now on. Idempotent; nothing while this worker ends."""
        if name not in self._open and not self._ending:
            self._open.add(name)
            self._in_thread(self._sync)

    def close(self, name: str) -> None:
        """Take no more messages of that lane. Idempotent."""
        if name in self._open:
            self._open.discard(name)
            self._in_thread(self._sync)

    async def closed(self, name: str) -> None:
        """`close`, and return when the broker gives this worker none any more, or cannot be told."""
        self._open.discard(name)
        await self._synced()

    async def stop(self) -> None:
        """Give back what is in work, leave the broker, end the thread: within some ten seconds."""
        self._ending = True  # what is given back frees its place, which would open its lane
        self._open.clear()
        await self._synced()  # else what is given back comes again
        for work in tuple(self._works):
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        self._stopping.set()
        self._in_thread(_shut_down)
        await asyncio.to_thread(self._thread.join, _JOIN_S)
        if self.alive:
            log.warning("celery.thread_left", reason="it did not end in time")

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    async def _synced(self) -> None:
        if not self.connected:
            return
        synced: concurrent.futures.Future[None] = concurrent.futures.Future()

        def sync() -> None:
            self._sync()
            if not synced.done():
                synced.set_result(None)

        self._in_thread(sync)
        try:
            async with asyncio.timeout(_CLOSED_S):
                await asyncio.wrap_future(synced)
        except TimeoutError:
            return

    def _register(self, task: str, take: Take) -> None:
        if task in self._app.tasks:
            return

        # Whatever arguments come: a call that fails for them would have what is linked to its failure sent.
        def run(request: Any, /, *_given: Any, **arguments: Any) -> None:
            # Who writes into the broker shall have nothing sent in this worker's name afterwards.
            request.request.update(callbacks=None, errbacks=None, chain=None, chord=None)
            self._carry_out(take, str(request.request.id), arguments)

        # Not shared: a task of Celery's is else one of every application in the process.
        self._app.task(run, name=task, bind=True, ignore_result=True, shared=False)

    def _carry_out(self, take: Take, message_id: str, arguments: Mapping[str, Any]) -> None:
        """In a thread of Celery's pool."""
        assert self._loop is not None
        if self._stopping.is_set() or self._loop.is_closed():
            raise Reject("this worker is ending", requeue=True)
        work = self._work(take, message_id, arguments)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            verdict = future.result()
        except concurrent.futures.CancelledError:
            raise Reject("this worker is ending", requeue=True) from None
        if verdict is Verdict.NO_ROOM:
            raise Reject("no room", requeue=True)

    async def _work(self, take: Take, message_id: str, arguments: Mapping[str, Any]) -> Verdict:
        if self._ending:
            raise asyncio.CancelledError
        work = asyncio.ensure_future(self._taken(take, message_id, arguments))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        return await work

    async def _taken(self, take: Take, message_id: str, arguments: Mapping[str, Any]) -> Verdict:
        try:
            return await take(message_id, arguments)
        except Exception as error:
            # A message that breaks one worker would break the next: whoever sent it finds out by waiting.
            log.exception("celery.task_failed", message_id=message_id, error=type(error).__name__)
            return Verdict.DONE

    def _in_thread(self, call: Callable[[], None]) -> None:
        consumer = self._consumer
        if consumer is not None:
            consumer.call_soon(call)

    def _run(self) -> None:
        """The thread."""
        self._app.set_current()
        while not self._stopping.is_set():
            try:
                self._run_once()
            except Exception as error:
                log.exception("celery.failed", error=type(error).__name__)
            self._consumer, self.connected = None, False
            if not self._stopping.is_set():
                log.error("celery.ended", again_in_s=_AGAIN_S)
                self._stopping.wait(_AGAIN_S)

    def _run_once(self) -> None:
        queues = self._app.amqp.queues
        for name in self._all_queues():
            queues.add(durable_queue(name))
        # What is selected is what it begins with; none would mean all of them.
        queues.select(self._all_queues())
        queues.deselect(self._all_queues() - self._wanted())
        with _MAKING:
            set_event_loop(None)  # else the loop of another one in this process
            worker = _Worker(
                app=self._app,
                hostname=self._node_name,
                pool_cls=_Pool,
                consumer_cls=type("Consumer", (_Consumer,), {"owner": self}),
                concurrency=self._threads,
                task_events=False,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
            )
        try:
            worker.start()
        finally:
            _close(getattr(worker, "hub", None))

    def _all_queues(self) -> set[str]:
        return {queue for lane in self._lanes.values() for queue in lane.queues}

    def _wanted(self) -> set[str]:
        return {queue for name in tuple(self._open) for queue in self._lanes[name].queues}

    def _connected(self, consumer: Any) -> None:
        """In the thread, with each new connection, when it is about to consume."""
        self._consumer, self.connected, self._told_unreachable = consumer, True, False
        self._sync()
        log.info("broker.connected")

    def _lost(self) -> None:
        """In the thread."""
        self.connected = False

    def _unreachable(self, broker: str, error: Exception) -> None:
        """In the thread, at each failed attempt to connect."""
        if not self._told_unreachable:
            log.error("broker.unreachable", broker=broker, reason=str(error))
        self._told_unreachable = True

    def _go_on(self) -> None:
        """In the thread, now and then while there is no connection."""
        if self._stopping.is_set():
            raise WorkerShutdown(0)

    def _sync(self) -> None:
        """In the thread: consume from the queues of the open lanes and from no other."""
        consumer = self._consumer
        if consumer is None:
            return
        wanted = self._wanted()
        selected = set(self._app.amqp.queues.consume_from)
        try:
            for queue in selected - wanted:
                consumer.cancel_task_queue(queue)
            for queue in wanted - selected:
                consumer.add_task_queue(queue)
        except (*consumer.connection_errors, *consumer.channel_errors, AttributeError) as error:
            # The connection is gone, perhaps with its consumer; the next one begins with what is wanted now.
            log.debug("broker.not_told", error=type(error).__name__)


class _Worker(WorkController):  # type: ignore[misc]  # Celery has no types
    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """They are selected already; none is a selection too."""


class _Consumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Tries again sooner than Celery's own, says so once, and ends while it tries."""

    owner: CeleryThread

    def ensure_connected(self, conn: Any) -> Any:
        def failed(error: Exception, interval_s: float) -> None:
            self.owner._unreachable(conn.as_uri(), error)  # without its password

        connection = conn.ensure_connection(
            failed,
            interval_start=1,
            interval_step=1,
            interval_max=_RETRY_MAX_S,
            callback=self.owner._go_on,
        )
        self.first_connection_attempt = False
        return connection


class _Pool(TaskPool):  # type: ignore[misc]  # Celery has no types
    """Its threads look for tasks in their own application, which Celery leaves to a global variable."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        app, *_ = options["initargs"]
        self.executor = concurrent.futures.ThreadPoolExecutor(
            self.limit, "celery-task", initializer=app.set_current
        )


class _Keeper(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The step of Celery's consumer that tells the thread's owner of every connection."""

    requires = (
        "celery.worker.consumer.tasks:Tasks",
        "celery.worker.consumer.control:Control",
    )
    owner: CeleryThread

    def start(self, consumer: Any) -> None:
        """Connected; nothing has been taken yet."""
        [control] = [step for step in consumer.steps if isinstance(step, Control)]
        # Whoever reaches the broker must neither end workers nor change what they take.
        control.box.node.handlers = {
            name: _answers(command) for name, command in self.owner._commands.items()
        }
        self.owner._connected(consumer)

    def stop(self, consumer: Any) -> None:
        """Not any more."""
        self.owner._lost()


def _close(hub: Any) -> None:
    """Celery leaves the sockets of its loop open when it is told to end twice, or a part of it fails as it
    stops: `SystemExit` or that failure passes by the step that closes them."""
    waker = getattr(hub, "_waker", None)
    if waker is not None:
        hub._waker = None
        waker.close()


def _shut_down() -> None:
    raise WorkerShutdown(0)


def _answers(command: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    return lambda state, **arguments: command(arguments)
