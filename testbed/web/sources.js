// Where a page's sound and pictures come from: devices, or made up here so that a test knows what must arrive.

import { sampleVoice } from "./sample_voice.js";
import { stagedScreen, stagedVoice, taped } from "./stage.js";

const SILENCE_MS = 500;

/** "device", "sample", "tone:<hz>", "stage" or "stage:device". The tone pulses twice a second, as speech does for a voice detector. */
export async function microphone(source) {
  if (source === "sample") return sampleVoice();
  if (source === "stage") return stagedVoice();
  if (source === "stage:device") return taped(await microphone("device"));
  const hz = toneOf(source);
  if (hz) return tone(hz);
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  return navigator.mediaDevices.getUserMedia({ audio: source === "device:raw" ? raw(audio) : audio });
}

/** "device" or "pattern:<color>": 640×360 at 30 per second. */
export async function camera(source) {
  const color = patternOf(source);
  if (color) return pattern({ color, width: 640, height: 360, perSecond: 30 });
  return navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 30 } });
}

/**
 * "any", "device" or "pattern:<color>[+tone:<hz>]"; the first two may come with sound, when `withSound` is set: of "any" a
 * person chooses screen, window or tab, "device" is this very tab.
 * "stage:<number>:<color>" shows what stage.js draws, and beeps with `withSound`.
 */
export async function screen(source, { withSound = false, perSecond = 10 } = {}) {
  const staged = /^stage:(\d):(.+)$/.exec(source);
  if (staged) {
    const { stream, end } = await stagedScreen(Number(staged[1]), staged[2], { perSecond, beeps: withSound });
    ended(stream.getVideoTracks()[0], end);
    return stream;
  }
  const [picture, sound] = source.split("+");
  const color = patternOf(picture);
  if (!color) {
    const video = { frameRate: perSecond };
    const own = source === "device" ? { preferCurrentTab: true } : {};
    return navigator.mediaDevices.getDisplayMedia({ video, audio: withSound, ...own });
  }
  const stream = pattern({ color, width: 1280, height: 720, perSecond });
  const hz = toneOf(sound ?? "");
  if (hz) stream.addTrack((await tone(hz)).getAudioTracks()[0]);
  return stream;
}

function raw(audio) {
  return Object.fromEntries(Object.keys(audio).map((name) => [name, false]));
}

function toneOf(source) {
  const found = /^tone:(\d+)$/.exec(source);
  return found && Number(found[1]);
}

function patternOf(source) {
  return /^pattern:(.+)$/.exec(source)?.[1];
}

async function tone(hz) {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const oscillator = new OscillatorNode(context, { frequency: hz });
  const volume = new GainNode(context, { gain: 0.3 });
  const out = new MediaStreamAudioDestinationNode(context);
  oscillator.connect(volume).connect(out);
  oscillator.start();
  let loud = true;
  const pulse = setInterval(() => {
    loud = !loud;
    volume.gain.setTargetAtTime(loud ? 0.3 : 0.002, context.currentTime, 0.01);
  }, SILENCE_MS);
  ended(out.stream.getAudioTracks()[0], () => {
    clearInterval(pulse);
    context.close();
  });
  return out.stream;
}

/** `color` everywhere but for a white bar at the top that moves, so that no frame is like the last one. */
function pattern({ color, width, height, perSecond }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  let drawn = 0;
  const draw = () => {
    pen.fillStyle = color;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = "white";
    pen.fillRect(((drawn % 40) / 40) * width, 0, width / 40, height / 8);
    drawn += 1;
  };
  draw();
  const drawing = setInterval(draw, 1000 / perSecond);
  const stream = canvas.captureStream(perSecond);
  ended(stream.getVideoTracks()[0], () => clearInterval(drawing));
  return stream;
}

/** `stop()` of a track tells nobody: remember what is to end with it. */
function ended(track, clean) {
  const stop = track.stop.bind(track);
  track.stop = () => {
    if (track.readyState === "ended") return;
    stop();
    clean();
  };
}
