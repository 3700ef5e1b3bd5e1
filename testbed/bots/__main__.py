"""All bots of a call in one process.

    python -m testbed.bots --world world.json --site-url http://127.0.0.1:8065 --truth truth.jsonl

Talks to its owner by JSON lines: on standard output `joined`, `job_state`, `caption`, `finished`; on
standard input `go` starts the plan's clock and `leave` (or the end of the input) sends everybody home.
Logs go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from callclient.errors import CallError
from foundation.clock import SystemClock
from foundation.logs import configure_logs, get_logger
from foundation.shutdown import shutdown_on_signals
from testbed.bots.bot import Bot, BotError, Stage
from testbed.bots.faults import FaultError, Faults, parse_faults
from testbed.bots.voice import beep_packets, silence_packet
from testbed.bots.world import World, WorldError, read_world
from testbed.scenario import ALL_PLANS, Plan, Say
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, SpeechError, load_clips
from testbed.truth import TruthLog

_NS = 1_000_000_000
_GO_DELAY_NS = 200_000_000


def main() -> int:
    """Exit code 0: everything was said; 1: the reason is the last log line; 2: wrong arguments."""
    options = _parse_arguments()
    configure_logs()
    log = get_logger(component="bots")
    try:
        world = read_world(options.world)
        plan = ALL_PLANS[options.scenario]
        clips = load_clips(options.speech, speakers=plan.bots)
        faults = parse_faults(options.fault, bots=plan.bots)
    except (WorldError, SpeechError, FaultError) as error:
        log.error("bots.unusable_input", reason=str(error))
        return 2
    # Both are encoded once; not in the middle of the call.
    silence_packet(), beep_packets()
    try:
        uvloop.run(_run(options, world, fit(plan, clips), clips, faults))
    except ExceptionGroup as errors:
        expected, others = errors.split((CallError, BotError))
        if others is not None or expected is None:
            raise
        log.error("bots.failed", reason=str(_first(expected)))
        return 1
    return 0


def _first(errors: BaseException) -> BaseException:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


def fit(plan: Plan, clips: dict[str, list[Clip]]) -> Plan:
    """The plan with room for the clips that there are."""

    def duration_s(event: Say) -> float:
        own = clips[event.bot]
        return own[event.clip % len(own)].duration_s

    return plan.fitted(duration_s)


async def _run(
    options: argparse.Namespace,
    world: World,
    plan: Plan,
    clips: dict[str, list[Clip]],
    faults: Faults,
) -> None:
    clock = SystemClock()
    truth = TruthLog(options.truth)
    stage = Stage(
        site_url=options.site_url,
        channel_id=world.channel_id,
        clips=clips,
        truth=truth,
        clock=clock,
        faults=faults,
        zero=asyncio.get_running_loop().create_future(),
        over=asyncio.Event(),
        host=world.host,
        opened=asyncio.Event(),
        report=_report,
    )
    bots = [
        Bot(
            world.users[name],
            stage,
            [event for event in plan.events if event.bot == name],
            rtp_stands_while_muted=name in plan.rtp_stands_while_muted,
        )
        for name in plan.bots
    ]
    try:
        with shutdown_on_signals() as shutdown:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(_run_all(bots), name="bots")
                helpers = [
                    tasks.create_task(_obey(stage), name="commands"),
                    tasks.create_task(_tell_end(stage, plan), name="plan-end"),
                    tasks.create_task(_cancel_on(shutdown.requested, running), name="signals"),
                ]
                await asyncio.wait([running])
                for helper in helpers:
                    helper.cancel()
    finally:
        truth.close()


async def _run_all(bots: list[Bot]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for bot in bots:
            tasks.create_task(bot.run())


async def _obey(stage: Stage) -> None:
    """Commands from standard input, until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        match line.decode().strip():
            case "go" if not stage.zero.done():
                stage.zero.set_result(stage.clock.monotonic_ns() + _GO_DELAY_NS)
            case "leave":
                break
    stage.over.set()
    if not stage.zero.done():
        stage.zero.cancel()


async def _tell_end(stage: Stage, plan: Plan) -> None:
    zero_ns = await asyncio.shield(stage.zero)
    _report({"event": "started", "zero_ns": zero_ns, "end_s": plan.end_s})
    await asyncio.sleep((zero_ns - stage.clock.monotonic_ns()) / _NS + plan.end_s)
    _report({"event": "finished"})


async def _cancel_on(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    await event.wait()
    task.cancel()


def _report(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbed.bots", description=__doc__)
    parser.add_argument("--world", type=Path, required=True, help="world.json of the stand-in")
    parser.add_argument("--site-url", required=True)
    parser.add_argument("--truth", type=Path, required=True, help="where to write what is done")
    parser.add_argument("--scenario", choices=sorted(ALL_PLANS), default="full")
    parser.add_argument("--speech", type=Path, default=CLIPS_DIRECTORY, help="folder of clips")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        help="delay:BOT:SECONDS or swap:BOT:BOT, to see the checks fail",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
