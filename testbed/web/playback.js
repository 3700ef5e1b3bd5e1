// A recording as a person plays it: in a video element. What it shows is read from the squares of stage.js.

const SOURCE_WIDTH = 1280;
const FOOTER = 32;
const SQUARES = { left: 320, top: 556, side: 40, count: 16 };
const EVENT_LIMIT_MS = 10000;
// No frame of a recording is shown for longer.
const FRAME_S = 1.1;

let video = null;
const pen = Object.assign(document.createElement("canvas"), { width: SQUARES.count, height: 1 })
  .getContext("2d", { willReadFrequently: true });

/** Load it; its length and size as the browser sees them. */
export async function openRecording(url) {
  video = Object.assign(document.createElement("video"), { src: url, preload: "auto", playsInline: true });
  document.body.append(video);
  await once("canplay");
  const { duration, videoWidth, videoHeight } = video;
  return { duration, videoWidth, videoHeight };
}

/** Play from a time on for so long: [media time, wall clock in s, brightness of the squares] of each picture shown. */
export async function playFrom(startS, forS) {
  await seekTo(startS);
  const seen = [];
  await new Promise((resolve, reject) => {
    setTimeout(reject, forS * 1000 + EVENT_LIMIT_MS, new Error(`not played: ${video.currentTime} s`));
    const look = (now, { mediaTime }) => {
      seen.push([mediaTime, now / 1000, squares()]);
      if (mediaTime < startS + forS) video.requestVideoFrameCallback(look);
      else resolve();
    };
    video.requestVideoFrameCallback(look);
    video.play().catch(reject);
  });
  video.pause();
  return seen;
}

/** Go there; where the browser says it is, and the brightness of the squares. */
export async function seekTo(atS) {
  const seen = presented(atS);
  video.currentTime = atS;
  await once("seeked");
  return [video.currentTime, await seen];
}

/** The squares of the frame of that time when it is presented, which "seeked" may come before. */
function presented(atS) {
  return new Promise((resolve, reject) => {
    let last = "none";
    setTimeout(() => reject(new Error(`no frame of ${atS} s, the last was of ${last} s`)), EVENT_LIMIT_MS);
    const look = (now, { mediaTime }) => {
      last = mediaTime;
      if (mediaTime <= atS + 0.001 && mediaTime > atS - FRAME_S) resolve(squares());
      else video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  });
}

function once(event) {
  return new Promise((resolve, reject) => {
    setTimeout(reject, EVENT_LIMIT_MS, new Error(`no ${event}: ${video.error?.message ?? "no error"}`));
    video.addEventListener(event, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(video.error.message)), { once: true });
  });
}

function squares() {
  const scale = (video.videoHeight - FOOTER) / 720;
  const left = (video.videoWidth - SOURCE_WIDTH * scale) / 2;
  const y = (SQUARES.top + SQUARES.side / 2) * scale;
  for (let index = 0; index < SQUARES.count; index += 1) {
    const x = left + (SQUARES.left + (index + 0.5) * SQUARES.side) * scale;
    pen.drawImage(video, x - 4, y - 4, 8, 8, index, 0, 1, 1);
  }
  const { data } = pen.getImageData(0, 0, SQUARES.count, 1);
  return Array.from({ length: SQUARES.count }, (_, index) => data[index * 4 + 1]);
}
