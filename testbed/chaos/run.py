"""All kills of a run, several at a time in one call, each judged as soon as it is salvaged."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from foundation.groups import unwrapped
from testbed.bots.world import read_world
from testbed.chaos import scenarios
from testbed.chaos.ground import Ground, ground
from testbed.chaos.judging import judge_outcome, judge_posted, judge_recording, recorded_s
from testbed.chaos.schedule import STAGES, JobKind, Kill, draw, plan_kills
from testbed.chaos.transcripts import Undisturbed, judge_transcript
from testbed.chaos.victim import Story, Victim, finish_story, kill_one
from testbed.truth import read_truth

_MORE_PER_STAGE: Final = 3
_MORE_ROUNDS: Final = 4
"""Further tries for a stage that was missed too often: some last for hundredths of a second."""
_RUN_IN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    job: JobKind = "recorder"
    kills: int = 50
    terms: int = 6
    """Polite ends, one in each stage."""
    seed: int = 1
    parallel: int = 3
    scenarios: tuple[str, ...] = scenarios.NAMES["recorder"]
    down_s: float = 8.0
    """How long Mattermost is away in the scenario `down`."""
    only_stages: tuple[str, ...] = ()
    """Empty: all of the job's."""
    quiet: bool = False
    """Nobody speaks or shows anything: nothing but a picture that stands still makes a recording grow."""

    @property
    def stages(self) -> tuple[str, ...]:
        return self.only_stages or STAGES[self.job]


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    options: Options
    stories: list[Story] = field(default_factory=list)
    scenarios: dict[str, Story] = field(default_factory=dict)
    duration_s: float = 0.0

    @property
    def complaints(self) -> list[str]:
        told = [(f"{s.hit or 'after its end'} ({s.job_id})", s) for s in self.stories]
        told += list(self.scenarios.items())
        return [f"{where}: {text}" for where, story in told for text in story.complaints]

    @property
    def short(self) -> dict[signal.Signals, list[str]]:
        """Stages that were hit less often than they should be: five times by SIGKILL, once by SIGTERM, or the
        stage's even share of fewer."""
        stages = self.options.stages
        due = {
            signal.SIGKILL: min(5, self.options.kills // len(stages)),
            signal.SIGTERM: min(1, self.options.terms // len(stages)),
        }
        return {
            number: [stage for stage in stages if self.hits(number)[stage] < wanted]
            for number, wanted in due.items()
        }

    def hits(self, number: signal.Signals) -> Counter[str]:
        """How often each stage was hit."""
        return Counter(s.hit for s in self.stories if s.wish and s.hit and s.wish.signal is number)


async def run(options: Options, directory: Path, tell: Callable[[Story], None]) -> Outcome:
    """Do it; `tell` gets each story as soon as it is judged.

    Raises:
        StartFailed, ProcessDied: a server did not come up, or is gone.
        TimeoutError: a job did not get anywhere.
    """
    began_s = time.monotonic()
    outcome = Outcome(options)
    async with ground(options.job, directory, quiet=options.quiet) as standing:
        runner = _Runner(options, standing, outcome, tell)
        watching = asyncio.create_task(standing.stack.watch(), name="watch")
        running = asyncio.create_task(runner.run(), name="chaos")
        try:
            await asyncio.wait([watching, running], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await watching  # a server died: raises
            await running
        finally:
            for task in (watching, running):
                task.cancel()
            await asyncio.gather(watching, running, return_exceptions=True)
    outcome.duration_s = time.monotonic() - began_s
    return outcome


class _Runner:
    def __init__(
        self, options: Options, ground: Ground, outcome: Outcome, tell: Callable[[Story], None]
    ) -> None:
        self._options = options
        self._ground = ground
        self._outcome = outcome
        self._tell = tell
        self._chance = random.Random(options.seed + 1)
        self._judging = asyncio.Semaphore(1)
        self._undisturbed: Story | None = None
        """Of a transcriber that lived through all the others' kills."""

    async def run(self) -> None:
        await asyncio.sleep(_RUN_IN_S)
        undisturbed = await self._start_undisturbed()
        plan = plan_kills(
            self._options.job,
            kills=self._options.kills,
            seed=self._options.seed,
            terms=self._options.terms,
            stages=self._options.stages,
        )
        try:
            await self._all(plan)
            for _ in range(_MORE_ROUNDS):
                await self._all(self._missed())
            await self._play(spoil_others=False)
            if undisturbed is not None:
                await self._end_undisturbed(undisturbed)
        finally:
            if undisturbed is not None:
                await undisturbed.finish()
        await self._play(spoil_others=True)
        if self._ground.job == "transcriber":
            await self._compare()

    async def _play(self, *, spoil_others: bool) -> None:
        for name in self._options.scenarios:
            if (name in scenarios.SPOIL_OTHERS) is spoil_others:
                story = await scenarios.play(name, self._ground, down_s=self._options.down_s)
                await self._judge(story)
                self._outcome.scenarios[name] = story

    async def _all(self, plan: list[Kill]) -> None:
        waiting = list(reversed(plan))

        async def work() -> None:
            while waiting:
                story = await kill_one(self._ground, waiting.pop())
                await self._judge(story)
                self._outcome.stories.append(story)
                self._tell(story)

        with unwrapped(OSError, TimeoutError):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._options.parallel):
                    tasks.create_task(work())

    def _missed(self) -> list[Kill]:
        """More for the stages that had too few."""
        job = self._options.job
        first = len(self._outcome.stories)
        wanted = [
            (stage, number_of)
            for number_of, stages in self._outcome.short.items()
            for stage in stages
            for _ in range(_MORE_PER_STAGE)
        ]
        return [
            draw(job, self._chance, number=number, stage=stage, number_of=number_of)
            for number, (stage, number_of) in enumerate(wanted, start=first)
        ]

    async def _judge(self, story: Story) -> None:
        async with self._judging:
            await asyncio.to_thread(_note_zero, story, self._ground.truth_file)
            judge_outcome(story)
            if self._ground.job == "recorder":
                judge_posted(story)
                if story.posts:
                    await self._judge_recording(story)

    async def _judge_recording(self, story: Story) -> None:
        path = self._ground.stack.settings.work_dir / f"{story.job_id}.mp4"
        content = await self._ground.content(story.posts[0]["file_ids"][0])

        def judge() -> None:
            path.write_bytes(content)
            judge_recording(story, read_truth(self._ground.truth_file), path)
            path.unlink()

        await asyncio.to_thread(judge)

    async def _start_undisturbed(self) -> Victim | None:
        if self._ground.job == "recorder":
            return None
        victim = Victim(self._ground, await self._ground.new_job())
        await victim.start()
        if not await victim.reached("call"):
            raise TimeoutError("the transcriber that nobody disturbs did not start")
        return victim

    async def _end_undisturbed(self, undisturbed: Victim) -> None:
        story = Story(undisturbed.job_id, None)
        story.stop_ns = time.monotonic_ns()
        await self._ground.stop(undisturbed.job_id)
        story.exit_code = await undisturbed.ended()
        await finish_story(self._ground, undisturbed, story)
        judge_outcome(story)
        if story.complaints or not story.posts:
            raise TimeoutError(f"the undisturbed transcript: {'; '.join(story.complaints)}")
        self._undisturbed = story

    async def _compare(self) -> None:
        """Now that everything is said."""
        truth = await asyncio.to_thread(read_truth, self._ground.truth_file)
        world = read_world(self._ground.stack.settings.world_file)
        whole = self._undisturbed
        assert whole is not None
        undisturbed = Undisturbed(
            truth,
            world,
            await self._vtt(whole),
            zero_ns=truth.monotonic_ns(whole.zero_ms),
            end_ns=whole.stop_ns,
        )
        for story in (*self._outcome.stories, *self._outcome.scenarios.values()):
            if story.zero_ms:
                judge_transcript(story, truth, undisturbed, await self._vtt(story))

    async def _vtt(self, story: Story) -> str:
        if not story.posts:
            return ""
        file_id = story.posts[0]["props"]["captions"][0]["file_id"]
        return (await self._ground.content(file_id)).decode()


def _note_zero(story: Story, truth_file: Path) -> None:
    if story.zero_ms:
        story.figures["zero_ns"] = read_truth(truth_file).monotonic_ns(story.zero_ms)
    story.figures["recorded_s"] = round(recorded_s(story), 3)
