"""What recordings look like in a browser's video element when their encoder changed in mid-call."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from jobs.recorder.settings import RecorderSettings
from testbed.browser.chromium import Chromium
from testbed.browser.tab import Tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_scope="module"),
]

TICK = 90_000
WIDTH, HEIGHT, RATE = 1280, 720, 10
LENGTH_S = 12
SMALLER_FROM_S, SMALLER_TO_S = 4, 8
TOLERANCE = 8
"""Levels of brightness, after encoder and canvas."""

# What the element shows, as 8 × 2 fields of brightness, whatever size the picture has been coded in.
_MODULE = """
globalThis.fields = () => {
  const pen = Object.assign(document.createElement("canvas"), { width: 8, height: 2 }).getContext("2d");
  const { videoWidth, videoHeight } = video, w = videoWidth / 8, h = videoHeight / 2;
  for (let n = 0; n < 16; n += 1) {
    const x = n % 8, y = Math.floor(n / 8);
    pen.drawImage(video, (x + 0.25) * w, (y + 0.25) * h, w / 2, h / 2, x, y, 1, 1);
  }
  const { data } = pen.getImageData(0, 0, 8, 2);
  return Array.from({ length: 16 }, (_, n) => data[n * 4 + 1]);
};
globalThis.once = (event) => new Promise((resolve, reject) => {
  setTimeout(reject, 10000, new Error(`no ${event}: ${video.error?.message ?? "no error"}`));
  video.addEventListener(event, resolve, { once: true });
  video.addEventListener("error", () => reject(new Error(video.error.message)), { once: true });
});
"""
_OPEN = f"""async (content) => {{
  {_MODULE}
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const src = URL.createObjectURL(new Blob([bytes], {{ type: "video/mp4" }}));
  globalThis.video = Object.assign(document.createElement("video"), {{ src, preload: "auto" }});
  document.body.append(video);
  await once("canplay");
  return [video.duration, video.videoWidth, video.videoHeight];
}}"""
# A frame is looked at when it is presented: "seeked" may come before the frame has reached the screen.
_SEEK = """async (atS, frameS) => {
  const shown = new Promise((resolve, reject) => {
    let last = "none";
    setTimeout(() => reject(new Error(`no frame of ${atS} s: the last one was of ${last} s`)), 10000);
    const look = (now, { mediaTime }) => {
      last = mediaTime;
      if (mediaTime > atS - frameS - 0.001 && mediaTime < atS + 0.001) resolve(fields());
      else video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  });
  video.currentTime = atS;
  const [seen] = await Promise.all([shown, once("seeked")]);
  return [video.currentTime, seen];
}"""
_PLAY = """async (fromS, untilS) => {
  video.currentTime = fromS;
  await once("seeked");
  const seen = [];
  await new Promise((resolve, reject) => {
    setTimeout(reject, 15000, new Error(`not played: ${video.currentTime} s`));
    const look = (now, { mediaTime }) => {
      seen.push([mediaTime, fields()]);
      if (mediaTime < untilS) video.requestVideoFrameCallback(look);
      else resolve();
    };
    video.requestVideoFrameCallback(look);
    video.play().catch(reject);
  });
  video.pause();
  return [video.currentTime, seen];
}"""


def shown(number: int) -> list[int]:
    """Brightness of the fields of a frame: its number in the upper eight, bit by bit; below a ramp."""
    return [200 if number >> bit & 1 else 60 for bit in range(8)] + [40 + 20 * n for n in range(8)]


def frame(number: int) -> np.ndarray:
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    upper, lower = np.array(shown(number)).reshape(2, 8)
    planes[: HEIGHT // 2] = np.repeat(upper, WIDTH // 8)
    planes[HEIGHT // 2 : HEIGHT] = np.repeat(lower, WIDTH // 8)
    return planes


def as_browser_sees(luma: int) -> float:
    """Limited range to full range."""
    return (luma - 16) * 255 / 219


@pytest.fixture(scope="module")
def eased(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording of a host that is too slow for four seconds: half the size from 4 to 8 s."""
    directory = tmp_path_factory.mktemp("eased")
    settings = RecorderSettings(
        *("",) * 5,
        data_dir=directory,
        width_px=WIDTH,
        height_px=HEIGHT,
        frame_rate=RATE,
        video_preset="veryfast",
    )
    writer = Mp4Writer(directory / "part.mp4", settings)
    for number in range(LENGTH_S * RATE):
        if number in (SMALLER_FROM_S * RATE, SMALLER_TO_S * RATE):
            small = number == SMALLER_FROM_S * RATE
            writer.ease(lighter=small, smaller=small)
        writer.write_picture(frame(number), ticks=number * TICK // RATE, duration=TICK // RATE)
        while writer.samples / 48_000 < (number + 1) / RATE:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    finish_mp4(directory / "part.mp4", directory / "done.mp4")
    return (directory / "done.mp4").read_bytes()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def player(chromium: Chromium, eased: bytes) -> AsyncIterator[Tab]:
    """The recording in a video element."""
    tab = await chromium.open("about:blank")
    opened = await tab.run(_OPEN, base64.b64encode(eased).decode())
    assert opened[0] == pytest.approx(LENGTH_S, abs=0.1)
    yield tab
    await tab.close()


def number_of(fields: list[int]) -> int:
    """The frame's number; all of the picture is there and nothing else."""
    assert fields[8:] == pytest.approx(
        [as_browser_sees(luma) for luma in shown(0)[8:]], abs=TOLERANCE
    ), "neither cropped nor in a corner"
    return sum(1 << bit for bit, level in enumerate(fields[:8]) if level > 128)


@pytest.mark.parametrize("at_s", [4.55, 9.05, 1.05, 7.95, 3.95, 4.05, 8.05, 11.55])
async def test_seeking_finds_the_right_picture_on_both_sides_of_a_change_of_size(
    player: Tab, at_s: float
) -> None:
    current_s, fields = await player.run(_SEEK, at_s, 1 / RATE)
    assert current_s == pytest.approx(at_s, abs=0.001)
    assert number_of(fields) == int(at_s * RATE)


async def test_a_recording_plays_on_through_changes_of_size(
    player: Tab, chromium: Chromium
) -> None:
    end_s, seen = await player.run(_PLAY, 3.0, 9.0)
    assert end_s >= 8.8, "a frame is shown a little before its time"
    numbers = []
    for media_s, fields in seen:
        numbers.append(number_of(fields))
        assert numbers[-1] == pytest.approx(media_s * RATE, abs=1.01)
    assert numbers == sorted(numbers)
    across = {number for number in numbers if SMALLER_FROM_S * RATE <= number < SMALLER_TO_S * RATE}
    assert len(across) > 10, "a loaded machine shows fewer than the forty there are, but many"
    assert chromium.decoder_errors() == []
