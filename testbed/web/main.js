// The page: who joins, the buttons, and `window.call`, by which tests do and see what a person would.

import { Call } from "./call.js";
import { enter, forget, keep, kept, lastName } from "./identity.js";
import { isRecording } from "./job_view.js";
import { colourOf, listen, networkReport, summary } from "./measures.js";
import { canSend } from "./publishing.js";
import { watchThread } from "./thread.js";
import { say, show, showLeft, showReal, videoOf } from "./view.js";

const PLUGIN = "/plugins/com.mattermost.calls";
const REPORT_INTERVAL_MS = 10000;

const channelId = location.pathname.split("/").pop();
const names = new Map();
let session = null;
let call = null;
let reporting = 0;

async function request(path, { method = "GET", body } = {}) {
  const headers = session ? { Authorization: `Bearer ${session.token}` } : {};
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json().catch(() => ({ message: `${path}: HTTP ${response.status}` }));
  if (!response.ok) throw new Error(answer.message ?? answer.detail);
  return answer;
}

/** As one of the stand-in's own people; tests do that. */
async function join(username) {
  session = await request("/testbed/login", { method: "POST", body: { username } });
  await joinCall();
}

/** As a person who has typed a name; `who` is an account of before, or has a name alone. */
async function joinAs({ name, sound, ...before }) {
  const known = before.token && (await isKnown(before.token));
  session = { ...(known ? { ...before, name } : await enter(name)), sound };
  keep(session);
  say("Connecting …");
  await joinCall();
}

/** A stand-in that was started anew knows nobody of before. */
async function isKnown(token) {
  const headers = { Authorization: `Bearer ${token}` };
  return (await fetch(`${PLUGIN}/calls/${channelId}/active`, { headers })).ok;
}

async function joinCall() {
  const config = await request(`${PLUGIN}/config`);
  call = new Call({ origin: location.origin, token: session.token, channelId, config });
  call.addEventListener("change", () => update());
  call.addEventListener("left", (event) => ended(event.detail.reason));
  reporting = setInterval(async () => call.report(await networkReport(call)), REPORT_INTERVAL_MS);
  await call.join();
}

function update() {
  const fresh = [...call.participants.values()].map((p) => p.userId).filter((id) => !names.has(id));
  if (fresh.length > 0) learnNames(fresh);
  show(call, names, session.user_id);
}

async function learnNames(userIds) {
  for (const id of userIds) names.set(id, "…");
  for (const user of await request("/api/v4/users/ids", { method: "POST", body: userIds })) {
    const { first_name: first, last_name: last, username } = user;
    names.set(user.id, first && last ? `${first} ${last}` : username);
  }
  update();
}

function ended(reason) {
  clearInterval(reporting);
  showLeft(reason);
}

function record(action) {
  return request(`${PLUGIN}/calls/${channelId}/recording/${action}`, { method: "POST" });
}

function incoming(sessionId, type) {
  return call.negotiation.incoming().find((one) => one.sessionId === sessionId && one.type === type);
}

window.call = {
  join,
  leave: () => call.leave(),
  unmute: (source) => call.unmute(source),
  mute: () => call.mute(),
  shareScreen: (source, options) => call.shareScreen(source, options),
  stopScreen: () => call.stopScreen(),
  startCamera: (source) => call.startCamera(source),
  stopCamera: () => call.stopCamera(),
  raiseHand: (raised) => call.raiseHand(raised),
  react: (name, unified) => call.react(name, unified),
  record,
  cutSocket: () => call.cutSocket(),
  canSend,
  restartIce: () => call.negotiation.restartIce(),
  summary: () => summary(call),
  listen: (sessionId, type, durationMs) => listen(incoming(sessionId, type).track, durationMs),
  colour: (sessionId, type) => colourOf(videoOf(sessionId, type)),
  state: () => call && {
    sessionId: call.sessionId,
    hostId: call.hostId,
    screenSessionId: call.screenSessionId,
    connected: call.connected,
    unmuted: call.unmuted,
    participants: [...call.participants.values()],
    captions: Object.fromEntries(call.captions),
    jobs: call.jobs,
    errors: call.errors,
    endedBecause: call.endedBecause,
  },
};

function on(id, event, act) {
  const element = document.getElementById(id);
  element.addEventListener(event, async (happened) => {
    happened.preventDefault();
    if (element.getAttribute("aria-disabled") === "true") return;
    try {
      await act();
    } catch (error) {
      say(inWords(error));
    }
  });
}

/** What a browser says about devices is no sentence. */
function inWords(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to do that: allow it beside the page's address, and try again";
    case "NotFoundError":
      return "The browser finds no such device: no microphone or no camera";
    case "NotReadableError":
      return "The device cannot be read: another program may be using it";
    default:
      return error.message;
  }
}

/** Devices are for secure pages alone: https, or http on this very machine. */
function devices() {
  if (!navigator.mediaDevices) {
    throw new Error("The browser keeps microphone and screen from this page: open it by https, or as http://127.0.0.1");
  }
}

on("login", "submit", async () => {
  const name = document.getElementById("name").value.trim();
  await joinAs({ name, sound: document.getElementById("sound").value });
  document.getElementById("voice").focus();
});
on("leave", "click", () => {
  forget();
  call.leave();
  document.getElementById("join").focus();
});
on("voice", "click", () => {
  if (call.unmuted) return call.mute();
  if (session.sound !== "sample") devices();
  return call.unmute(session.sound ?? "device");
});
on("camera", "click", () => {
  if (call.media.camera?.track) return call.stopCamera();
  devices();
  return call.startCamera();
});
on("screen", "click", () => {
  if (call.media.screen) return call.stopScreen();
  devices();
  return call.shareScreen("any", { withSound: true });
});
on("hand", "click", () => call.raiseHand(!call.participants.get(call.sessionId)?.raisedHand));
on("record", "click", () => record(isRecording(call.jobs) ? "stop" : "start"));

const before = kept();
document.getElementById("name").value = before?.name ?? lastName();
if (before) {
  document.getElementById("sound").value = before.sound;
  joinAs(before).catch((error) => say(inWords(error)));
}
watchThread(channelId);
showReal(await request("/testbed/about"));
