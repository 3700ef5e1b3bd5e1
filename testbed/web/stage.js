// Media for calls that are judged afterwards: a screen that numbers its pictures and beeps when it flashes, a voice
// that says what it is given, and tapes of what the tracks really carried. Every time is of the system's monotonic clock
// in ms, as `performance.now()` counts it.
//
// The picture is the bots' (testbed/bots/picture.py), so that one analysis reads both; the row of squares and the patch
// are read by testbed/analysis/numbered.py.

const WIDTH = 1280;
const HEIGHT = 720;
const CORNER = 120;
const CORNERS = [
  ["rgb(220,30,30)", 0, 0],
  ["rgb(30,190,30)", WIDTH - CORNER, 0],
  ["rgb(30,30,220)", 0, HEIGHT - CORNER],
  ["rgb(230,210,30)", WIDTH - CORNER, HEIGHT - CORNER],
];
const FLASH = [320, 180, 640, 360];
const FLASH_MS = 200;
const PATCH = [1000, 240, 220, 200];
const SQUARES = { left: 320, top: 556, side: 40, number: 12, share: 3 };
const BEEP = { hz: 1000, seconds: 0.1, ramp: 0.002, amplitude: 0.25 };
const TAPE_RATE_HZ = 16000;
const BETWEEN_RATES = 3; // of 48 kHz
const FIRST_FLASH_S = 0.5;

let voice = null;
const shows = [];
const tapes = new Map();

/** `stage`: silent until `say` gives it something, and taped. */
export async function stagedVoice() {
  const context = new AudioContext({ sampleRate: TAPE_RATE_HZ * BETWEEN_RATES });
  await context.resume();
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  // Held, or it is collected, and then a silent voice sends no packets at all, as no microphone does.
  const floor = new ConstantSourceNode(context, { offset: 0 });
  floor.connect(out);
  floor.start();
  voice = { context, out, floor };
  tape("voice", out.stream.getAudioTracks()[0]);
  return out.stream;
}

/** Say a file (base64 of anything that the browser decodes); returns when its first sample is due, ms. */
export async function say(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const buffer = await voice.context.decodeAudioData(bytes.buffer);
  const source = new AudioBufferSourceNode(voice.context, { buffer });
  source.connect(voice.out);
  const at = voice.context.currentTime + 0.05;
  source.start(at);
  return performance.now() + (at - voice.context.currentTime) * 1000;
}

/** A tone of so many Hz until it is called with 0. */
export function hum(hz) {
  voice.hum?.stop();
  voice.hum = hz ? new OscillatorNode(voice.context, { frequency: hz }) : null;
  if (!voice.hum) return;
  voice.hum.connect(new GainNode(voice.context, { gain: 0.1 })).connect(voice.out);
  voice.hum.start();
}

/** The device's voice, taped. */
export function taped(stream) {
  tape("voice", stream.getAudioTracks()[0]);
  return stream;
}

/** A screen whose patch has `color` and which says that it is number `share` (1…7); with beeps at its flashes. */
export async function stagedScreen(share, color, { perSecond, beeps }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const show = { share, pen: canvas.getContext("2d", { alpha: false }), color, drawn: [] };
  shows.push(show);
  const stream = canvas.captureStream();
  let zeroMs = performance.now() + FIRST_FLASH_S * 1000;
  let stopSound = () => undefined;
  if (beeps) {
    const context = new AudioContext({ sampleRate: TAPE_RATE_HZ * BETWEEN_RATES });
    await context.resume();
    const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    const source = new AudioBufferSourceNode(context, { buffer: beepEachSecond(context), loop: true });
    source.connect(out);
    const at = context.currentTime + FIRST_FLASH_S;
    source.start(at);
    zeroMs = performance.now() + (at - context.currentTime) * 1000;
    tape(`beeps-${share}`, out.stream.getAudioTracks()[0]);
    stream.addTrack(out.stream.getAudioTracks()[0]);
    stopSound = () => context.close();
  }
  let timer = 0;
  const next = () => {
    const nowMs = performance.now();
    const index = Math.round(((nowMs - zeroMs) * perSecond) / 1000);
    draw(show, index + perSecond, (nowMs - zeroMs) / 1000, nowMs);
    timer = setTimeout(next, zeroMs + ((index + 1) * 1000) / perSecond - performance.now());
  };
  next();
  const [picture] = stream.getVideoTracks();
  picture.contentHint = "detail"; // as a captured screen has it: rather fewer pictures than smaller ones
  return {
    stream,
    end: () => {
      clearTimeout(timer);
      stopSound();
    },
  };
}

/** What was shown and heard since the last time this was asked. */
export function takeEvidence() {
  const seen = shows.map(({ share, drawn }) => ({ share, drawn: drawn.splice(0) }));
  const heard = [...tapes].map(([name, blocks]) => ({ name, rate: TAPE_RATE_HZ, ...packed(blocks.splice(0)) }));
  return { seen, heard };
}

function draw({ share, pen, color, drawn }, number, atS, nowMs) {
  const sinceFlash = (atS - Math.floor(atS + 0.01)) * 1000; // a timer may be early by a hair
  const flashing = atS > -0.01 && sinceFlash < FLASH_MS - 10;
  pen.fillStyle = "rgb(60,60,60)";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  for (const [fill, left, top] of CORNERS) box(pen, fill, left, top, CORNER, CORNER);
  if (flashing) box(pen, "white", ...FLASH);
  box(pen, color, ...PATCH);
  box(pen, "rgb(0,200,200)", 120 + ((number * 24) % 976), 610, 64, 64);
  drawSquares(pen, number, share);
  pen.fillStyle = "white";
  pen.font = "64px sans-serif";
  pen.fillText(`${share}  ${number}`, 500, 110);
  drawn.push([number, nowMs]);
}

/** From the left: the number's bits, the share's, and one that makes the white squares even. */
function drawSquares(pen, number, share) {
  const bits = [...bitsOf(number, SQUARES.number), ...bitsOf(share, SQUARES.share)];
  bits.push(bits.reduce((sum, bit) => sum ^ bit, 0));
  bits.forEach((bit, index) => {
    box(pen, bit ? "white" : "black", SQUARES.left + index * SQUARES.side, SQUARES.top, SQUARES.side, SQUARES.side);
  });
}

function bitsOf(value, count) {
  return Array.from({ length: count }, (_, index) => (value >> (count - 1 - index)) & 1);
}

function box(pen, fill, left, top, width, height) {
  pen.fillStyle = fill;
  pen.fillRect(left, top, width, height);
}

function beepEachSecond(context) {
  const buffer = new AudioBuffer({ length: context.sampleRate, sampleRate: context.sampleRate });
  const samples = buffer.getChannelData(0);
  const count = BEEP.seconds * context.sampleRate;
  for (let n = 0; n < count; n += 1) {
    const toEdge = Math.min(n, count - n) / context.sampleRate;
    const ramp = Math.min(toEdge / BEEP.ramp, 1);
    samples[n] = BEEP.amplitude * ramp * Math.sin((2 * Math.PI * BEEP.hz * n) / context.sampleRate);
  }
  return buffer;
}

/** Keep what a track carries, with the time of each block of it. */
async function tape(name, track) {
  const blocks = tapes.get(name) ?? [];
  tapes.set(name, blocks);
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 500 }).readable.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    const { numberOfFrames, sampleRate, timestamp } = value;
    if (sampleRate !== TAPE_RATE_HZ * BETWEEN_RATES) throw new Error(`a track has ${sampleRate} Hz`);
    const samples = new Float32Array(numberOfFrames);
    value.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    value.close();
    blocks.push({ ms: timestamp / 1000, samples: thinned(samples) });
  }
}

function thinned(samples) {
  const thin = new Int16Array(samples.length / BETWEEN_RATES);
  for (let n = 0; n < thin.length; n += 1) {
    const at = n * BETWEEN_RATES;
    thin[n] = ((samples[at] + samples[at + 1] + samples[at + 2]) / BETWEEN_RATES) * 32767;
  }
  return thin;
}

function packed(blocks) {
  const bytes = blocks.flatMap(({ samples }) => [...new Uint8Array(samples.buffer)]);
  let text = "";
  for (let n = 0; n < bytes.length; n += 8192) text += String.fromCharCode(...bytes.slice(n, n + 8192));
  return { blocks: blocks.map(({ ms, samples }) => [ms, samples.length]), base64: btoa(text) };
}
