// A stay in a call: the plugin's events in, its actions out, the own tracks, and who is there.

import { MattermostSocket } from "./mattermost_socket.js";
import { Negotiation } from "./negotiation.js";
import { packSdp } from "./packed_sdp.js";
import { addScreen, addVoice } from "./publishing.js";
import * as sources from "./sources.js";

const CAPTION_MS = 5000;
const JOIN_LIMIT_MS = 15000;

/** Events: "change" (anything that is shown), "left" (detail: {reason}). */
export class Call extends EventTarget {
  participants = new Map();
  captions = new Map();
  jobs = {};
  hostId = "";
  screenSessionId = "";
  sessionId = "";
  errors = [];
  endedBecause = "";
  media = { voice: null, screen: null, camera: null };
  unmuted = false;
  negotiation = null;
  #socket;
  #config;
  #channelId;
  #joined = null;

  constructor({ origin, token, channelId, config }) {
    super();
    this.#config = config;
    this.#channelId = channelId;
    this.#socket = new MattermostSocket(origin, token);
    this.#socket.addEventListener("open", (event) => this.#opened(event.detail));
    this.#socket.addEventListener("calls", (event) => this.#heard(event.detail));
    this.#socket.addEventListener("gone", () => this.#end("the connection was lost"));
  }

  get connected() {
    return this.negotiation?.connection.connectionState === "connected";
  }

  /** Resolves when media flows. Throws with the plugin's text, or after 15 s. */
  async join() {
    this.#socket.open();
    try {
      await new Promise((resolve, reject) => {
        this.#joined = { resolve, reject };
        setTimeout(reject, JOIN_LIMIT_MS, new Error("the call was not reached within 15 s"));
      });
    } catch (error) {
      this.#end(error.message);
      throw error;
    }
  }

  leave() {
    this.#socket.send("leave");
    this.#end("left");
  }

  // what this participant sends

  async unmute(source = "device") {
    const track = this.media.voice?.track ?? (await sources.microphone(source)).getAudioTracks()[0];
    if (this.media.voice) await this.media.voice.sender.replaceTrack(track);
    else this.media.voice = { track, sender: await addVoice(this.negotiation, track) };
    this.media.voice.track = track;
    this.#socket.send("unmute");
    this.unmuted = true;
    this.#changed();
  }

  async mute() {
    await this.media.voice?.sender.replaceTrack(null);
    this.#socket.send("mute");
    this.unmuted = false;
    this.#changed();
  }

  async shareScreen(source = "device", { withSound = false } = {}) {
    const { EnableSimulcast: simulcast, EnableAV1: av1 } = this.#config;
    const perSecond = simulcast ? 20 : 10;
    const stream = await sources.screen(source, { withSound, perSecond });
    this.#socket.send("screen_on", { data: JSON.stringify({ screenStreamID: stream.id }) });
    this.media.screen = { stream, senders: [] };
    stream.getVideoTracks()[0].addEventListener("ended", () => this.stopScreen());
    this.media.screen.senders = await addScreen(this.negotiation, stream, { simulcast, av1 });
    this.#changed();
  }

  async stopScreen() {
    const { screen } = this.media;
    if (!screen) return;
    this.media.screen = null;
    const copies = screen.senders.map((sender) => sender.track);
    for (const track of [...screen.stream.getTracks(), ...copies]) track?.stop();
    this.#socket.send("screen_off");
    await this.negotiation.renegotiate((connection) => {
      for (const sender of screen.senders) connection.removeTrack(sender);
    });
    this.#changed();
  }

  async startCamera(source = "device") {
    const stream = await sources.camera(source);
    const [track] = stream.getVideoTracks();
    if (this.media.camera) await this.media.camera.sender.replaceTrack(track);
    else {
      const sender = await this.negotiation.renegotiate((connection) =>
        connection.addTransceiver(track, {
          direction: "sendrecv",
          streams: [stream],
          sendEncodings: [{ maxBitrate: 1_000_000, maxFramerate: 30 }],
        }).sender);
      this.media.camera = { streamId: stream.id, sender };
    }
    this.media.camera.track = track;
    // After the track, as the web client; its first packets may be there earlier than this.
    this.#socket.send("video_on", { data: JSON.stringify({ videoStreamID: this.media.camera.streamId }) });
    this.#changed();
  }

  async stopCamera() {
    const { camera } = this.media;
    if (!camera?.track) return;
    camera.track.stop();
    camera.track = null;
    await camera.sender.replaceTrack(null);
    this.#socket.send("video_off");
    this.#changed();
  }

  raiseHand(raised) {
    this.#socket.send(raised ? "raise_hand" : "unraise_hand");
  }

  react(name, unified) {
    this.#socket.send("react", { data: JSON.stringify({ name, unified }) });
  }

  /** The WebSocket breaks; it comes back within the ten seconds that the plugin waits. */
  cutSocket() {
    this.#socket.cut();
  }

  /** Tell the server what became of what we sent and got. */
  report(figures) {
    this.negotiation?.channel.report(figures);
  }

  // what the plugin says

  #opened({ connectionId, previousId }) {
    if (!this.sessionId) {
      this.sessionId = connectionId;
      const { EnableAV1, EnableDCSignaling, EnableSimulcast } = this.#config;
      this.#socket.send("join", {
        channelID: this.#channelId,
        av1Support: Boolean(EnableAV1 && !EnableSimulcast),
        dcSignaling: Boolean(EnableDCSignaling),
      });
    } else {
      this.#socket.send("reconnect", {
        channelID: this.#channelId,
        originalConnID: this.sessionId,
        prevConnID: previousId,
      });
      this.#socket.send("call_state", { channelID: this.#channelId });
    }
  }

  #heard({ name, data, broadcast }) {
    const channelId = broadcast.channel_id || data.channelID || data.channel_id || data.callID;
    if (channelId && channelId !== this.#channelId) return;
    const isForOther = data.connID && ![this.sessionId, this.#socket.connectionId].includes(data.connID);
    if (!isForOther) this[`on_${name}`]?.(data);
    this.#changed();
  }

  async on_join() {
    this.negotiation = new Negotiation({
      iceServers: this.#config.ICEServersConfigs ?? [],
      dcSignaling: Boolean(this.#config.EnableDCSignaling),
      signal: {
        sdp: async (description) => {
          this.#socket.send("sdp", { data: await packSdp(description) }, { binary: true });
        },
        candidate: (candidate) => this.#socket.send("ice", { data: JSON.stringify(candidate) }),
      },
    });
    this.negotiation.addEventListener("incoming", () => this.#changed());
    this.negotiation.addEventListener("state", () => this.#connectionChanged());
    await this.negotiation.start();
  }

  on_error({ data }) {
    this.errors.push(data);
    this.#joined?.reject(new Error(data));
  }

  on_signal({ data }) {
    this.negotiation?.take(JSON.parse(data));
  }

  on_call_state({ call }) {
    const state = JSON.parse(call);
    this.hostId = state.host_id;
    this.screenSessionId = state.screen_sharing_session_id;
    const speaking = new Set([...this.participants.values()].filter((p) => p.speaking).map((p) => p.sessionId));
    this.participants.clear();
    for (const session of state.sessions) {
      this.participants.set(session.session_id, {
        sessionId: session.session_id,
        userId: session.user_id,
        unmuted: session.unmuted,
        raisedHand: session.raised_hand,
        video: session.video,
        speaking: speaking.has(session.session_id),
      });
    }
    for (const kind of ["recording", "transcription", "live_captions"]) {
      if (state[kind]) this.jobs[state[kind].type] = state[kind];
    }
  }

  on_user_joined({ session_id, user_id }) {
    if (this.participants.has(session_id)) return;
    const fresh = { unmuted: false, raisedHand: 0, video: false, speaking: false };
    this.participants.set(session_id, { sessionId: session_id, userId: user_id, ...fresh });
  }

  on_user_left({ session_id }) {
    this.participants.delete(session_id);
    if (session_id === this.sessionId) this.#end("the server ended the session");
  }

  on_user_muted({ session_id }) { this.#set(session_id, { unmuted: false, speaking: false }); }
  on_user_unmuted({ session_id }) { this.#set(session_id, { unmuted: true }); }
  on_user_voice_on({ session_id }) { this.#set(session_id, { speaking: true }); }
  on_user_voice_off({ session_id }) { this.#set(session_id, { speaking: false }); }
  on_user_video_on({ session_id }) { this.#set(session_id, { video: true }); }
  on_user_video_off({ session_id }) { this.#set(session_id, { video: false }); }
  on_user_raise_hand({ session_id, raised_hand }) { this.#set(session_id, { raisedHand: raised_hand }); }
  on_user_unraise_hand({ session_id }) { this.#set(session_id, { raisedHand: 0 }); }
  on_user_screen_on({ session_id }) { this.screenSessionId = session_id; }
  on_user_screen_off() { this.screenSessionId = ""; }
  on_call_host_changed({ hostID }) { this.hostId = hostID; }
  on_call_job_state({ jobState }) { this.jobs[jobState.type] = jobState; }
  on_call_end() { this.leave(); }

  on_host_mute({ session_id }) { if (session_id === this.sessionId) this.mute(); }
  on_host_screen_off({ session_id }) { if (session_id === this.sessionId) this.stopScreen(); }
  on_host_lower_hand({ session_id }) { if (session_id === this.sessionId) this.raiseHand(false); }
  on_host_removed({ session_id }) { if (session_id === this.sessionId) this.leave(); }

  on_caption({ session_id, text }) {
    const caption = { text };
    this.captions.set(session_id, caption);
    setTimeout(() => {
      if (this.captions.get(session_id) === caption) this.captions.delete(session_id);
      this.#changed();
    }, CAPTION_MS);
  }

  #set(sessionId, changes) {
    const participant = this.participants.get(sessionId);
    if (participant) Object.assign(participant, changes);
  }

  #connectionChanged() {
    const state = this.negotiation.connection.connectionState;
    if (state === "connected") this.#joined?.resolve();
    if (state === "failed") this.#end("the media connection failed");
    this.#changed();
  }

  #end(reason) {
    this.endedBecause ||= reason;
    this.#socket.close();
    this.negotiation?.close();
    for (const media of Object.values(this.media)) {
      media?.track?.stop();
      for (const track of media?.stream?.getTracks() ?? []) track.stop();
    }
    this.media = { voice: null, screen: null, camera: null };
    this.dispatchEvent(new CustomEvent("left", { detail: { reason } }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
