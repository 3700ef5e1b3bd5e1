// One peer connection with the SFU: offers of both sides one at a time, and which remote track is whose.

import { CallsChannel } from "./data_channel.js";

const ANSWER_LIMIT_MS = 10000;

/**
 * `signal` is how descriptions and candidates go out: {sdp(description), candidate(candidate)}.
 * Events: "state" (connection state), "incoming" (the remote tracks changed).
 */
export class Negotiation extends EventTarget {
  counts = { offersSent: 0, offersTaken: 0, conflicts: 0, largestSdp: 0 };
  failures = [];
  mediaMap = {};
  #signal;
  #dcSignaling;
  #queue = Promise.resolve();
  #inbound = Promise.resolve();
  #changes = Promise.resolve();
  #early = [];
  #answered = null;

  constructor({ iceServers, dcSignaling, signal }) {
    super();
    this.#signal = signal;
    this.#dcSignaling = dcSignaling;
    this.connection = new RTCPeerConnection({ iceServers });
    this.channel = new CallsChannel(this.connection);
    this.channel.addEventListener("mediamap", (event) => {
      this.mediaMap = event.detail;
      this.#changed();
    });
    this.channel.addEventListener("sdp", (event) => this.take(event.detail));
    this.connection.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate) signal.candidate(candidate);
    });
    this.connection.addEventListener("connectionstatechange", () => {
      this.dispatchEvent(new Event("state"));
    });
  }

  /** The first offer: a data channel only, over the WebSocket, without the lock. */
  async start() {
    await this.connection.setLocalDescription();
    this.counts.offersSent += 1;
    await this.#signal.sdp(this.connection.localDescription);
  }

  close() {
    this.channel.close();
    this.connection.close();
  }

  /** Change what we send by `change(connection)`, under the lock, with an offer of ours. Throws when it fails. */
  renegotiate(change) {
    const done = this.#changes.then(() => this.#renegotiate(change));
    this.#changes = done.catch(() => undefined);
    return done;
  }

  async #renegotiate(change) {
    await this.channel.opened;
    await this.channel.lock();
    try {
      return await this.#enqueue(async () => {
        const result = await change(this.connection);
        await this.#offer();
        return result;
      });
    } finally {
      this.channel.unlock();
    }
  }

  /** Look for another way to the server. Over the WebSocket and without the lock: the data channel is down with the rest. */
  restartIce() {
    return this.#enqueue(() => {
      this.connection.restartIce();
      return this.#offer({ byWebSocket: true });
    });
  }

  /** A description or a candidate of the server, or a promise of one; in the order of their coming. */
  take(message) {
    this.#inbound = this.#inbound
      .then(() => message)
      .then((ready) => this.#dispatch(ready))
      .catch((error) => this.failures.push(String(error)));
  }

  /** The remote tracks that are sent now: {mid, kind, type, sessionId, trackId, track, receiver}. */
  incoming() {
    const owners = owners_by_mid(this.connection.remoteDescription?.sdp ?? "");
    return this.connection
      .getTransceivers()
      .filter(({ mid, currentDirection }) => owners.has(mid) && /recv/.test(currentDirection ?? ""))
      .map(({ mid, receiver }) => {
        const { sessionId, trackId } = owners.get(mid);
        const { kind } = receiver.track;
        // As the web client: a video that the media map does not name is not shown.
        const type = this.mediaMap[mid]?.type ?? (kind === "audio" ? "voice" : "unknown");
        return { mid, kind, type, sessionId, trackId, track: receiver.track, receiver };
      });
  }

  #dispatch(message) {
    // Not queued: the offer that waits for it holds the queue.
    if (message.type === "answer" && this.#answered) this.#answered(message);
    else {
      this.#enqueue(() => {
        if (message.type === "candidate") return this.#candidate(message.candidate);
        return message.type === "offer" ? this.#takeOffer(message) : this.#takeAnswer(message);
      }).catch(() => undefined); // told in `failures`
    }
  }

  async #offer({ byWebSocket = false } = {}) {
    await this.connection.setLocalDescription();
    const answer = new Promise((resolve, reject) => {
      this.#answered = resolve;
      setTimeout(reject, ANSWER_LIMIT_MS, new Error("no answer to our offer"));
    });
    try {
      this.counts.offersSent += 1;
      const description = this.connection.localDescription;
      await (byWebSocket ? this.#signal.sdp(description) : this.#send(description));
      await this.#takeAnswer(await answer);
    } finally {
      this.#answered = null;
    }
  }

  async #takeAnswer(answer) {
    await this.connection.setRemoteDescription(answer);
    await this.#addEarly();
    this.#changed();
  }

  async #takeOffer(offer) {
    if (this.connection.signalingState !== "stable") this.counts.conflicts += 1; // we are the polite side
    await this.connection.setRemoteDescription(offer);
    await this.connection.setLocalDescription();
    this.counts.offersTaken += 1;
    await this.#send(this.connection.localDescription);
    await this.#addEarly();
    this.#changed();
  }

  async #candidate(candidate) {
    if (this.connection.remoteDescription) await this.connection.addIceCandidate(candidate);
    else this.#early.push(candidate);
  }

  async #addEarly() {
    for (const candidate of this.#early.splice(0)) await this.connection.addIceCandidate(candidate);
  }

  async #send(description) {
    // It grows with every share of a screen, as the web client's, and the plugin takes 64 KiB.
    this.counts.largestSdp = Math.max(this.counts.largestSdp, description.sdp.length);
    if (this.#dcSignaling && this.channel.open) await this.channel.sendSdp(description);
    else await this.#signal.sdp(description);
  }

  #enqueue(step) {
    const done = this.#queue.then(step);
    this.#queue = done.then(
      () => undefined,
      (error) => this.failures.push(String(error)),
    );
    return done;
  }

  #changed() {
    this.dispatchEvent(new Event("incoming"));
  }
}

/** mid -> who sends there, from `a=msid:<stream> <type>_<session>_<random>` of sections that are sent. */
function owners_by_mid(sdp) {
  const owners = new Map();
  for (const section of sdp.split(/\r\nm=/).slice(1)) {
    const mid = /\r\na=mid:(\S+)/.exec(section)?.[1];
    const msid = /\r\na=msid:\S+ (\S+)/.exec(section)?.[1];
    const isSent = /\r\na=(sendrecv|sendonly)/.test(section);
    const [, sessionId] = msid?.split("_") ?? [];
    if (mid && sessionId && isSent) owners.set(mid, { sessionId, trackId: msid });
  }
  return owners;
}
