"""Two people use the stand-in's page as anybody would: by its fields and buttons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testbed.browser.chromium import Chromium
from testbed.browser.tab import Tab
from testbed.browser_call.reading import Read, read

FIRST, SECOND = "Jane Doe", "Max"
_START_LIMIT_S: Final = 70.0
_POSTS_LIMIT_S: Final = 90.0
_LINE_LIMIT_S: Final = 40.0
_GONE_LIMIT_S: Final = 5.0
_LOOK_S: Final = 0.5
SENTENCES: Final = 2
"""So many are judged."""
PLAYED_S: Final = 1.5

_WATCH: Final = """() => {
    const sound = document.querySelector("#videos audio").srcObject;
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    new MediaStreamAudioSourceNode(context, { mediaStream: sound }).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    globalThis.seen = { levels: [], captions: [], rings: 0 };
    setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        const level = Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
        seen.levels.push([performance.now() / 1000, level]);
        seen.rings += document.querySelectorAll("#people .speaking").length > 0 ? 1 : 0;
    }, 40);
    new MutationObserver(() => {
        const text = document.getElementById("captions").textContent;
        if (text) seen.captions.push([performance.now() / 1000, text]);
    }).observe(document.getElementById("captions"), { childList: true, characterData: true, subtree: true });
}"""
_PLAY: Final = """async (seconds) => {
    const video = document.querySelector("article video");
    video.muted = true;
    await video.play();
    const began = performance.now();
    while (video.currentTime < seconds && performance.now() - began < 15000) {
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    video.pause();
    const { currentTime, duration, videoWidth, videoHeight } = video;
    return { currentTime, duration, videoWidth, videoHeight };
}"""
_CUES: Final = """() => {
    const [track] = document.querySelector("article video")?.textTracks ?? [];
    return track?.mode === "showing" && track.cues?.length > 0 &&
        [...track.cues].map(({ startTime, endTime, text }) => ({ startTime, endTime, text }));
}"""

OnState = Callable[[str, Tab], Awaitable[None]]
"""`(state, tab)` when the page has come to `lobby`, `call` or `thread`."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What they did and saw; times in s of the second one's page."""

    at_s: dict[str, float]
    """When it was so far, from the first look at the page: joined, recording, captioned, stopped, posted,
    played."""
    sentences: list[Read]
    """What the second one heard of the first one, and read."""
    rings: int
    """How often a ring was seen."""
    said: list[str]
    """The page's log of captions."""
    jobs: list[str]
    """What the page told of the jobs while they ran."""
    hint: str
    """What the page tells who is not the host."""
    screen: tuple[int, int]
    """Size of the first one's screen as the second one sees it, pixels."""
    after_reload: list[str]
    """Who is in the call when the second one has reloaded, as the page names them."""
    focus: dict[str, str]
    """What had the focus then, by its id."""
    playback: dict[str, float]
    cues: list[dict[str, Any]]
    transcript: str
    downloads: list[str]
    """The names of the files of the thread."""
    errors: list[str]


async def visit(
    chromium: Chromium, url: str, texts: Sequence[str], *, on_state: OnState | None = None
) -> Visit:
    """Join in two tabs, talk (the browser's microphone says `texts`, again and again), share, record, stop,
    reload, leave, play.

    Raises:
        TabError, DevToolsError: the page did not come to where it should.
    """
    clock = asyncio.get_running_loop().time
    began_s, at_s, focus = clock(), dict[str, float](), dict[str, str]()

    def mark(what: str) -> None:
        at_s[what] = round(clock() - began_s, 2)

    async def tell(state: str, tab: Tab) -> None:
        if on_state is not None:
            await on_state(state, tab)

    jane = await chromium.open(url)
    await tell("lobby", jane)
    await _join(jane, FIRST)
    focus["joined"] = await _focus(jane)
    max_ = await chromium.open(url)
    await _join(max_, SECOND)
    await jane.until("() => document.querySelectorAll('#people li').length === 2")
    mark("joined")
    await click(jane, "voice")
    await max_.until("() => Boolean(document.querySelector('#videos audio'))")
    await max_.run(_WATCH)
    hint = await max_.run("() => document.getElementById('record-hint').textContent")
    await click(jane, "record")
    await jane.until(
        "() => document.querySelectorAll('#jobs .on').length === 3", timeout_s=_START_LIMIT_S
    )
    jobs = await jane.run(
        "() => [...document.querySelectorAll('#jobs li')].map((li) => li.textContent)"
    )
    captioned_from_s = await max_.run("() => performance.now() / 1000")
    mark("recording")
    await click(jane, "screen")
    screen = await max_.until(
        "() => { const { videoWidth: w, videoHeight: h } = document.querySelector('#videos video') ?? {};"
        " return w && [w, h]; }"
    )
    await max_.until("() => seen.captions.length > 0", timeout_s=_LINE_LIMIT_S)
    mark("captioned")
    await tell("call", max_)
    await max_.until(
        "() => document.querySelectorAll('#said li').length > 0", timeout_s=_LINE_LIMIT_S
    )
    sentences = await _read(max_, texts, captioned_from_s)
    rings = await max_.run("() => seen.rings")
    said = await max_.run(
        "() => [...document.querySelectorAll('#said li')].map((li) => li.textContent)"
    )
    await click(jane, "record")
    await jane.until("() => document.querySelectorAll('#jobs .ended').length === 3")
    mark("stopped")
    await max_.reload()
    await max_.until(
        "() => document.getElementById('voice').checkVisibility() && call.state()?.connected"
    )
    # Long before the server gives a lost session up.
    await jane.until(
        "() => document.querySelectorAll('#people li').length === 2", timeout_s=_GONE_LIMIT_S
    )
    people = await jane.run(
        "() => [...document.querySelectorAll('#people div')].map((one) => one.textContent)"
    )
    for tab in (max_, jane):
        await click(tab, "leave")
        await tab.until("() => document.getElementById('join').checkVisibility()")
    focus["left"] = await _focus(jane)
    cues = await jane.until(_CUES, timeout_s=_POSTS_LIMIT_S)
    mark("posted")
    playback = await jane.run(_PLAY, PLAYED_S)
    mark("played")
    await jane.run("() => { document.querySelector('article details').open = true; }")
    transcript = await jane.until("() => document.querySelector('article pre').textContent")
    downloads = await jane.run(
        "() => [...document.querySelectorAll('article a')].map((one) => one.download)"
    )
    await tell("thread", jane)
    errors = [*jane.errors, *max_.errors]
    for tab in (jane, max_):
        await tab.close()
    return Visit(
        at_s=at_s,
        sentences=sentences,
        rings=rings,
        said=said,
        jobs=jobs,
        hint=hint,
        screen=(screen[0], screen[1]),
        after_reload=people,
        focus=focus,
        playback=playback,
        cues=cues,
        transcript=transcript,
        downloads=downloads,
        errors=errors,
    )


async def _read(tab: Tab, texts: Sequence[str], from_s: float) -> list[Read]:
    """As soon as there are enough sentences to judge, or after a while those that there are."""
    clock = asyncio.get_running_loop().time
    until_s = clock() + _LINE_LIMIT_S
    while True:
        seen = await tab.run("() => seen")
        found = read(seen["levels"], seen["captions"], texts, from_s=from_s)
        if len(found) >= SENTENCES or clock() > until_s:
            return found
        await asyncio.sleep(_LOOK_S)


async def click(tab: Tab, element: str) -> None:
    """As a person does, on what has that id."""
    await tab.run("(id) => document.getElementById(id).click()", element)


async def _join(tab: Tab, name: str) -> None:
    """By keyboard alone: the name, then Enter."""
    await tab.until("() => Boolean(globalThis.call)")
    await tab.run(
        "() => { const name = document.getElementById('name'); name.value = ''; name.focus(); }"
    )
    for letter in name:
        await tab.press("Space" if letter == " " else letter)
    await tab.press("Enter")
    await tab.until(
        "() => document.getElementById('voice').checkVisibility() && call.state()?.connected"
    )


async def _focus(tab: Tab) -> str:
    return str(await tab.until("() => document.activeElement?.id"))
