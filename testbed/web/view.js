// What the page shows of a call. It reads the call and changes nothing in it.

import { clearCaptions, showCaptions } from "./caption_view.js";
import { isRecording, showJobs } from "./job_view.js";

const media = new Map();

/** Show the call as it is; `names` maps user ids to names, `ownId` is who looks. */
export function show(call, names, ownId) {
  if (call.endedBecause) return;
  const userName = (sessionId) => names.get(call.participants.get(sessionId)?.userId) ?? "Somebody";
  element("room").hidden = false;
  element("lobby").hidden = true;
  say(status(call));
  showJobs(element("jobs"), call.jobs);
  showPeople(call, userName, ownId);
  showMedia(call, userName);
  showCaptions(call.captions, userName);
  pressed("voice", call.unmuted, ["Unmute", "Mute"]);
  pressed("camera", Boolean(call.media.camera?.track), ["Start camera", "Stop camera"]);
  pressed("screen", Boolean(call.media.screen), ["Share screen", "Stop sharing"]);
  pressed("hand", Boolean(call.participants.get(call.sessionId)?.raisedHand), ["Raise hand", "Lower hand"]);
  pressed("record", isRecording(call.jobs), ["Record", "Stop recording"]);
  const isHost = call.hostId === ownId;
  element("record").setAttribute("aria-disabled", String(!isHost));
  const host = [...call.participants.values()].find(({ userId }) => userId === call.hostId);
  text(element("record-hint"), isHost || !host ? "" : `${userName(host.sessionId)} is the host and can record`);
}

/** Nobody is in the call any more. */
export function showLeft(reason) {
  for (const { node } of media.values()) node.remove();
  media.clear();
  clearCaptions();
  element("jobs").replaceChildren();
  element("people").replaceChildren();
  element("room").hidden = true;
  element("lobby").hidden = false;
  say(`Not in the call: ${reason}`);
}

/** Tell how it is, or what went wrong. */
export function say(words) {
  text(element("status"), words);
}

/** `about` is what the stand-in says of itself. */
export function showReal({ real_models: areReal }) {
  element("bundled-model").hidden = areReal;
  element("real-models").hidden = !areReal;
}

/** The video element of a participant's "screen" or "video"; null without one. */
export function videoOf(sessionId, type) {
  const found = [...media.values()].find((one) => one.sessionId === sessionId && one.type === type);
  return found?.node.querySelector("video") ?? null;
}

function status(call) {
  const count = call.participants.size;
  const people = `${count} participant${count === 1 ? "" : "s"}`;
  const recording = isRecording(call.jobs) ? ", recording" : "";
  return call.connected ? `In the call, ${people}${recording}` : "Connecting …";
}

function showPeople(call, userName, ownId) {
  const list = element("people");
  for (const item of [...list.children]) if (!call.participants.has(item.dataset.session)) item.remove();
  for (const { sessionId, userId, unmuted, speaking, raisedHand } of call.participants.values()) {
    let item = list.querySelector(`[data-session="${sessionId}"]`);
    if (!item) {
      item = document.createElement("li");
      item.dataset.session = sessionId;
      const image = document.createElement("img");
      image.alt = "";
      image.src = `/testbed/users/${userId}/image`;
      item.append(image, document.createElement("div"), document.createElement("small"));
      list.append(item);
    }
    item.classList.toggle("speaking", speaking);
    text(item.querySelector("div"), userName(sessionId) + (sessionId === call.sessionId ? " (you)" : ""));
    const voice = unmuted ? speaking && "speaking" : "muted";
    const sharing = sessionId === call.screenSessionId && "shares the screen";
    const words = [userId === call.hostId && "host", voice, sharing, raisedHand && "hand up"];
    text(item.querySelector("small"), words.filter(Boolean).join(", "));
  }
}

/** One element for each incoming section; a section that got another track shows that one. */
function showMedia(call, userName) {
  const incoming = new Map((call.negotiation?.incoming() ?? []).map((one) => [one.mid, one]));
  for (const [mid, { node, trackId }] of [...media]) {
    const now = incoming.get(mid);
    if (now?.trackId === trackId && now.type === media.get(mid).type) continue;
    node.remove();
    media.delete(mid);
  }
  for (const [mid, { kind, type, sessionId, trackId, track }] of incoming) {
    if (media.has(mid) || type === "unknown") continue;
    const node = document.createElement(kind === "video" ? "figure" : "audio");
    const player = kind === "video" ? document.createElement("video") : node;
    player.srcObject = new MediaStream([track]);
    player.autoplay = true;
    if (kind === "video") {
      player.muted = player.playsInline = true;
      const caption = document.createElement("figcaption");
      text(caption, `${userName(sessionId)}${type === "screen" ? "'s screen" : ""}`);
      node.append(player, caption);
    }
    element("videos").append(node);
    player.play().catch((error) => refused(error));
    media.set(mid, { node, type, sessionId, trackId });
  }
}

/** Browsers may want a click before a page makes a sound, after a reload for example. */
function refused(error) {
  if (error.name !== "NotAllowedError") return; // removed before it began
  say("Click anywhere to hear the others");
  const playAll = () => {
    for (const player of document.querySelectorAll("#videos audio")) player.play().catch(() => undefined);
  };
  addEventListener("click", playAll, { once: true });
}

/** The words tell what a click would do, the colour that it is on. */
function pressed(id, isOn, [off, on]) {
  element(id).classList.toggle("on", isOn);
  text(element(id), isOn ? on : off);
}

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

function element(id) {
  return document.getElementById(id);
}
