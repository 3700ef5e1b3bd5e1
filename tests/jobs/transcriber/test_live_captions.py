"""Three voices at once through the real voice detector and the real small model, on virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from jobs.transcriber.caption_publisher import CaptionPublisher
from jobs.transcriber.captions import CaptionBoard, CaptionOptions
from jobs.transcriber.listening import Ear
from jobs.transcriber.scheduler import SpeechScheduler
from jobs.transcriber.vad import load_silero

pytestmark = pytest.mark.looptime

JOB_COST_S = 0.15
"""What a hypothesis of a base model costs on one thread with ten seconds of context."""
NETWORK_S = 0.06


class LoopClock:
    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def utc_now(self):
        raise NotImplementedError


async def test_every_sentence_is_captioned_in_time_and_words_do_not_flicker(clips, engine) -> None:
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    sent: list[tuple[float, str, str]] = []

    class Sink:
        async def send_caption(self, *, session_id, text, new_audio_len_ms) -> None:
            sent.append((loop.time() - start_s, session_id, text))

    publisher = CaptionPublisher(
        Sink(),
        clock=LoopClock(),
        call_ns_to_monotonic_ns=lambda call_ns: call_ns + round(start_s * 1e9),
    )
    metrics: list[str] = []
    board = CaptionBoard(
        engine,
        options=CaptionOptions(),
        publish=publisher.offer,
        report_metric=lambda name, _: metrics.append(name),
    )

    async def execute(job) -> None:
        job.run()
        await asyncio.sleep(JOB_COST_S)

    scheduler = SpeechScheduler([board], workers=2, execute=execute)

    async def talk(name: str) -> None:
        ear, packets = Ear(load_silero()), clips[name].packets()
        for begin in range(0, len(packets), 5):
            batch = packets[begin : begin + 5]
            await asyncio.sleep(start_s + batch[-1].end_ns / 1e9 + NETWORK_S - loop.time())
            for event in ear.hear(batch):
                board.hear(name, event, now_s=loop.time())
            scheduler.notify()

    tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(publisher.run())]
    await asyncio.gather(*(talk(name) for name in clips))
    await asyncio.sleep(3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    for name, clip in clips.items():
        for index, sentence in enumerate(clip.sentences):
            following = clip.sentences[index + 1 :]
            until_s = following[0].start_s + 0.5 if following else 1e9
            mine = [
                (at_s, text)
                for at_s, who, text in sent
                if who == name and sentence.start_s + 0.5 < at_s < until_s
            ]
            assert mine, sentence
            last_s, last_text = mine[-1]
            assert last_text == sentence.text
            assert last_s <= sentence.end_s + 1.5
            for (_, earlier), (_, later) in itertools.pairwise(mine):
                assert later.startswith(earlier)
    assert metrics == []
    assert publisher.final_lags().p95_s <= 1.6
    assert publisher.partial_lags().p50_s <= 1.0
