"""The course of the demo: stack up, bots in, record, talk, stop, wait for the posts, judge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from callclient.plugin_api import PluginApi
from foundation.groups import unwrapped
from testbed.analysis.call import Call
from testbed.analysis.checks import CheckResult
from testbed.analysis.evidence import RecordingWish
from testbed.bots.world import World, read_world
from testbed.demo.conversation import CallFailed, Conversation
from testbed.demo.job_records import settled_records
from testbed.demo.judge import Files, judge
from testbed.demo.options import DemoOptions, provide_models
from testbed.demo.show import Show
from testbed.demo.steps import (
    command,
    joined_after_s,
    listen,
    make_room,
    show_progress,
    while_watched,
    with_whole_truth,
)
from testbed.demo.summary import make_summary
from testbed.demo.thread import Results, Thread, lose_upload_part
from testbed.job_watch import log_events
from testbed.polling import until
from testbed.processes import StartFailed
from testbed.scenario import ALL_PLANS
from testbed.speech.clips import Clip, load_clips
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

WISH: Final = RecordingWish(width_px=1280, height_px=720, frame_rate=20)
"""The stand-in's recording quality `medium` (calls-plugin.md 6.3)."""

_JOIN_LIMIT_S: Final = 20.0
_START_LIMIT_S: Final = 70.0
"""The plugin itself gives up after a minute (calls-plugin.md 6.7)."""
_STOP_LIMIT_S: Final = 15.0
_SLACK_S: Final = 20.0
_POSTS_LIMIT_S: Final = 180.0
_JOB_END_LIMIT_S: Final = 20.0
_POLL_S: Final = 0.5
_AWAY_S: Final = 3.0
"""How long a killed job service stays away."""
_AFTER_STOP_S: Final = 1.0
"""People do not leave in the very moment in which the host stops the recording."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How a run went."""

    summary: Mapping[str, Any]
    failed: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        return not self.failed


async def run_demo(
    options: DemoOptions, show: Show, *, hurry: asyncio.Event | None = None
) -> DemoResult:
    """Run once; whatever happens, no process is left. `hurry` shortens the end.

    Raises:
        SpeechError, OptionError: unusable input; nothing was started.
        PortTaken, StartFailed: a server did not come up.
        ProcessDied: a needed process is gone.
        CallFailed, ThreadError, ApiError: the call did not go as planned.
    """
    run = _Run(options, show, hurry)
    try:
        return await run.run()
    finally:
        await asyncio.to_thread(run.clean_up)


class _Run:
    def __init__(self, options: DemoOptions, show: Show, hurry: asyncio.Event | None) -> None:
        self._options = options
        self._show = show
        self._hurry = hurry
        self._plan = ALL_PLANS[options.scenario]
        self._output = options.output.resolve()
        self._logs = self._output / "logs"
        self._work_dir = self._output / "work"
        self._stack: Stack | None = None
        self._complete = False
        self._records: list[dict[str, Any]] = []

    async def run(self) -> DemoResult:
        # First what can be refused without touching anything, the results of an earlier run included.
        options = self._options
        options.ports.check(
            host=options.host,
            bundled_sfu=not options.rtcd_url,
            workers=options.backend == "celery",
        )
        clips = await asyncio.to_thread(
            load_clips, self._options.speech_dir, speakers=self._plan.bots
        )
        await asyncio.to_thread(make_room, self._output, self._work_dir, self._logs)
        settings = StackSettings(
            work_dir=self._work_dir,
            log_dir=self._logs,
            models_dir=provide_models(self._options, self._work_dir),
            ports=self._options.ports,
            backend=self._options.backend,
            rtcd_url=self._options.rtcd_url,
            host=options.host,
            tls=self._options.backend == "docker",
        )
        if (install := options.install) is not None:
            settings = replace(
                settings,
                offloader_environment=install.environment,
                plugin_environment=install.plugin_environment,
                image_registry=install.image_registry,
                images=() if install.has_own_images else settings.images,
            )
        if (visitor := options.visitor) is not None:
            more = {**settings.offloader_environment, **visitor.offloader_environment}
            settings = replace(
                settings,
                offloader_environment=more,
                plugin_environment=visitor.plugin_environment,
                names=visitor.names,
            )
        self._show.title("Starting")
        stack = Stack(settings, announce=self._show.server, hurry=self._hurry)
        self._stack = stack
        async with stack:
            call, results = await while_watched(stack, self._record(stack))
            stack.sample()
        self._show.title("Judging the results")
        result = await self._judge(stack, call, results, clips)
        self._complete = True
        return result

    async def _record(self, stack: Stack) -> tuple[Call, Results]:
        site_url = stack.settings.site_url
        world = read_world(stack.settings.world_file)
        conversation = Conversation(
            world,
            truth_file=self._output / "truth.jsonl",
            captions_file=self._output / "captions.jsonl",
            on_caption=self._show.caption,
        )
        host = world.users[world.host]
        visitor = self._options.visitor
        if visitor is not None:
            await visitor.before(stack)
        if self._options.loses_upload_part:
            await lose_upload_part(site_url, ca_file=stack.settings.ca_file)
        bots = await stack.start_talker("bots", self._bot_arguments(stack.settings))
        listener = asyncio.create_task(listen(bots, conversation), name="bots-listener")
        try:
            async with (
                PluginApi(
                    site_url=site_url, auth_token=host.token, ca_file=stack.settings.ca_file
                ) as api,
                Thread(site_url, world.channel_id, ca_file=stack.settings.ca_file) as thread,
            ):
                await self._talk(stack, bots, conversation, api, world)
                call = conversation.call()
                stack.release("bots")
                results = await self._await_posts(stack, thread)
                await self._download(thread, results)
                await self._await_job_ends(stack)
                self._records = await settled_records(
                    stack.settings.admin_socket, limit_s=_JOB_END_LIMIT_S, without=stack.strangers
                )
                if visitor is not None:
                    await visitor.after(stack)
                await bots.wait()
            return call, results
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            conversation.close()

    def _bot_arguments(self, settings: StackSettings) -> list[str]:
        options = self._options
        arguments = ["testbed.bots", "--world", str(settings.world_file)]
        arguments += ["--site-url", settings.site_url, "--scenario", options.scenario]
        arguments += ["--truth", str(self._output / "truth.jsonl")]
        arguments += ["--speech", str(options.speech_dir)]
        return arguments + [f"--fault={fault}" for fault in options.bot_faults]

    async def _talk(
        self,
        stack: Stack,
        bots: asyncio.subprocess.Process,
        conversation: Conversation,
        api: PluginApi,
        world: World,
    ) -> None:
        early = {event.bot for event in self._plan.events if event.at_s <= 0}
        await conversation.wait_for(
            "the bots' joining", lambda: conversation.joined(early), limit_s=_JOIN_LIMIT_S
        )
        self._show.server("Bots", f"{', '.join(sorted(early))} are in the call")
        await api.start_recording(world.channel_id)
        self._show.line(f"{world.host} presses record")
        for kind in ("recording", "transcribing"):
            await conversation.wait_for(
                f"the start of {kind}",
                partial(conversation.started, kind),
                limit_s=_START_LIMIT_S,
            )
        for job in stack.jobs():
            self._show.server(
                job.name.capitalize(), f"joined after {await joined_after_s(job):.1f} s"
            )
        self._show.title("Live captions")
        command(bots, "go")
        with unwrapped(CallFailed, StartFailed):
            async with asyncio.TaskGroup() as tasks:
                if self._options.crash_offloader_at_s is not None:
                    tasks.create_task(
                        self._crash_offloader(stack, self._options.crash_offloader_at_s)
                    )
                if self._options.visitor is not None:
                    tasks.create_task(self._options.visitor.during(stack), name="visitor")
                await conversation.wait_for(
                    "the start of the talk",
                    lambda: conversation.plan_s is not None,
                    limit_s=_SLACK_S,
                )
                await conversation.wait_for(
                    "the end of the talk",
                    lambda: conversation.finished,
                    limit_s=(conversation.plan_s or 0) + _SLACK_S,
                )
        await api.stop_recording(world.channel_id)
        await conversation.wait_for(
            "the stop", lambda: conversation.ended("recording"), limit_s=_STOP_LIMIT_S
        )
        await asyncio.sleep(_AFTER_STOP_S)
        command(bots, "leave")

    async def _crash_offloader(self, stack: Stack, at_s: float) -> None:
        await asyncio.sleep(at_s)
        self._show.line(f"kill -9 of the job service; it comes back after {_AWAY_S:g} s")
        await stack.crash_offloader(away_s=_AWAY_S)

    async def _await_posts(self, stack: Stack, thread: Thread) -> Results:
        self._show.title("The host stopped the recording; waiting for the posts")
        try:
            async with asyncio.timeout(_POSTS_LIMIT_S):
                with self._show.progress() as bars:
                    while True:
                        results = await thread.results()
                        show_progress(stack, bars)
                        if results.complete:
                            return results
                        self._raise_if_silent(stack)
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise CallFailed(f"no posts of both jobs within {_POSTS_LIMIT_S:g} s") from None

    def _raise_if_silent(self, stack: Stack) -> None:
        """A job that ended well must have posted: its post is there before it ends."""
        jobs = stack.jobs()
        if len(jobs) > 1 and all(job.exit is not None for job in jobs):
            raise CallFailed(
                f"both jobs ended, but not both have posted; see the logs in {self._logs}"
            )

    async def _download(self, thread: Thread, results: Results) -> None:
        for file_id, name in (
            (results.recording_file_id, "recording.mp4"),
            (results.vtt_file_id, "transcript.vtt"),
            (results.text_file_id, "transcript.txt"),
        ):
            assert file_id is not None
            await thread.download(file_id, self._output / name)

    async def _await_job_ends(self, stack: Stack) -> None:
        async def ended() -> bool:
            return all(job.exit is not None for job in stack.jobs())

        await until(
            ended,
            "the end of the jobs that have posted",
            limit_s=_JOB_END_LIMIT_S,
            failure=CallFailed,
        )

    async def _judge(
        self, stack: Stack, call: Call, results: Results, clips: Mapping[str, Sequence[Clip]]
    ) -> DemoResult:
        self._copy_job_logs()
        joined_s = {
            job.name: float(record["joined_after_s"])
            for job in stack.jobs()
            for record in log_events(job, "started")
            if "joined_after_s" in record
        }
        measured = await asyncio.to_thread(
            judge,
            Files(self._output),
            scenario=self._options.scenario,
            wish=WISH,
            call=with_whole_truth(call, self._output / "truth.jsonl"),
            clips=clips,
            results=results,
            figures=stack.figures(),
            start_to_joined_s=joined_s,
            records=self._records,
            killed=stack.killed,
            left_over=list(stack.left_over().values()),
        )
        summary = make_summary(measured)
        (self._output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return DemoResult(summary, tuple(check for check in measured.checks if not check.ok))

    def clean_up(self) -> None:
        """Keep the jobs' logs; what lies in the working directory only when it may still be needed."""
        self._copy_job_logs()
        if self._complete and not self._options.keep_work_dir:
            shutil.rmtree(self._work_dir, ignore_errors=True)

    def _copy_job_logs(self) -> None:
        if self._stack is None:
            return
        for job in self._stack.jobs():
            with contextlib.suppress(OSError):
                shutil.copyfile(job.log, self._logs / f"{job.name}.log")
