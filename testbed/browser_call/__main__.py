"""`python -m testbed.browser_call URL`: Chromium as two people at the page that `make demo SERVE=1` names."""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import tempfile
from pathlib import Path
from typing import Final

from testbed.analysis.speech import split_words
from testbed.browser.chromium import ChromiumMissing, FakeDevices, started_chromium
from testbed.browser.devtools import DevToolsError
from testbed.browser.tab import Tab, TabError
from testbed.browser_call.script import write_speech_loop
from testbed.browser_call.visit import PLAYED_S, SENTENCES, OnState, Visit, visit
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips

_SPEAKER: Final = "alice"
_MOST_ERRORS: Final = 0.15
"""Of the words: the bundled model's own, and those of a browser's noise suppression."""


def main() -> int:
    """Entry point; 0 when the call was recorded, transcribed and captioned, 1 when something is missing."""
    parser = argparse.ArgumentParser(prog="testbed.browser_call", description=__doc__)
    parser.add_argument("url", help="as printed by make demo SERVE=1")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="put PNG files of the page there"
    )
    arguments = parser.parse_args()
    try:
        seen = asyncio.run(_visit(arguments.url, arguments.pictures))
    except (ChromiumMissing, TabError, DevToolsError) as error:
        sys.stderr.write(f"the call in the browser failed: {error}\n")
        return 1
    for what, at_s in seen.at_s.items():
        print(f"{at_s:6.1f} s  {what}")
    for problem in (problems := missing(seen)):
        print(f"failed: {problem}")
    return 1 if problems else 0


def missing(seen: Visit) -> list[str]:
    """What is not as it should be, a line each."""
    found = [f"an error in the page: {error}" for error in seen.errors]
    words = sum(len(split_words(sentence.wanted)) for sentence in seen.sentences)
    errors = sum(sentence.errors for sentence in seen.sentences)
    if len(seen.sentences) < SENTENCES or errors > _MOST_ERRORS * words:
        found.append(
            f"captions: {errors} errors in {words} words of {len(seen.sentences)} sentences"
        )
    if seen.playback["currentTime"] < PLAYED_S or not seen.playback["videoWidth"]:
        found.append(f"the recording does not play: {seen.playback}")
    if not seen.cues or not seen.transcript:
        found.append("the recording has no captions, or there is no transcript")
    return found


async def _visit(url: str, pictures: Path | None) -> Visit:
    clips = (
        await asyncio.to_thread(load_clips, CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))
    )[_SPEAKER]
    with tempfile.TemporaryDirectory(prefix="browser-call-") as name:
        sound = Path(name) / "microphone.wav"
        await asyncio.to_thread(write_speech_loop, sound, clips)
        # A certificate of the demo's own CA is as good as any here.
        more = ("--ignore-certificate-errors",) if url.startswith("https:") else ()
        async with started_chromium(
            Path(name) / "chromium", devices=FakeDevices(sound=sound), more=more
        ) as chromium:
            on_state = None if pictures is None else photographer(pictures)
            return await visit(chromium, url, [clip.text for clip in clips], on_state=on_state)


def photographer(directory: Path) -> OnState:
    """Takes a picture of each state in both colour schemes."""
    directory.mkdir(parents=True, exist_ok=True)

    async def on_state(state: str, tab: Tab) -> None:
        await tab.resize(1280, 900)
        for scheme in ("light", "dark"):
            await tab.prefer(scheme)
            picture = base64.b64decode(await tab.screenshot())
            await asyncio.to_thread((directory / f"{state}-{scheme}.png").write_bytes, picture)

    return on_state


if __name__ == "__main__":
    sys.exit(main())
