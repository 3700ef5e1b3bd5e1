// The channel "calls-dc": pings, the signaling lock, packed descriptions, the media map, network reports.

import { concat, pack, unpackAll } from "./msgpack.js";
import { packSdp, unpackSdp } from "./packed_sdp.js";

const PING = 1;
const PONG = 2;
const SDP = 3;
const LOSS_RATE = 4;
const ROUND_TRIP_TIME = 5;
const JITTER = 6;
const LOCK = 7;
const UNLOCK = 8;
const MEDIA_MAP = 9;

const PING_INTERVAL_MS = 1000;
const LOCK_RETRY_MS = 50;
const LOCK_LIMIT_MS = 5000;

/** `opened` is a promise. Events: "sdp" (detail: description), "mediamap" (detail: mid -> {type, sender_id}). */
export class CallsChannel extends EventTarget {
  pongs = 0;
  pings = 0;
  #channel;
  #pinging = 0;
  #lockAnswer = null;

  constructor(connection) {
    super();
    this.#channel = connection.createDataChannel("calls-dc");
    this.#channel.binaryType = "arraybuffer";
    this.opened = new Promise((resolve, reject) => {
      this.#channel.addEventListener("open", resolve);
      this.#channel.addEventListener("close", () => reject(new Error("the data channel is closed")));
    });
    this.opened.then(() => this.#startPings(), () => undefined); // who waits for it is told
    this.#channel.addEventListener("close", () => clearInterval(this.#pinging));
    this.#channel.addEventListener("message", (event) => this.#heard(event.data));
  }

  get open() {
    return this.#channel.readyState === "open";
  }

  close() {
    clearInterval(this.#pinging);
    this.#channel.close();
  }

  async sendSdp(description) {
    this.#send(SDP, await packSdp(description));
  }

  report({ lossRate, roundTripTimeS, jitterS }) {
    this.#send(LOSS_RATE, lossRate);
    this.#send(ROUND_TRIP_TIME, roundTripTimeS);
    this.#send(JITTER, jitterS);
  }

  /** Ask until the server grants it. Throws when it does not within 5 s. */
  async lock() {
    if (!this.open) throw new Error("the data channel is closed");
    const deadlineMs = performance.now() + LOCK_LIMIT_MS;
    while (performance.now() < deadlineMs) {
      const granted = await new Promise((resolve) => {
        this.#lockAnswer = resolve;
        this.#send(LOCK);
        setTimeout(resolve, LOCK_LIMIT_MS, false);
      });
      if (granted) return;
      await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS));
    }
    throw new Error("the server did not grant the signaling lock");
  }

  unlock() {
    this.#send(UNLOCK);
  }

  #startPings() {
    this.#pinging = setInterval(() => {
      this.pings += 1;
      this.#send(PING);
    }, PING_INTERVAL_MS);
  }

  #send(type, payload) {
    if (!this.open) return;
    const head = Uint8Array.of(0xcc, type);
    this.#channel.send(payload === undefined ? head : concat([head, pack(payload)]));
  }

  async #heard(data) {
    if (typeof data === "string") return;
    const [type, payload] = unpackAll(new Uint8Array(data));
    if (type === PONG) this.pongs += 1;
    else if (type === LOCK) this.#lockAnswer?.(payload === true);
    else if (type === MEDIA_MAP) this.dispatchEvent(new CustomEvent("mediamap", { detail: payload }));
    else if (type === SDP) {
      this.dispatchEvent(new CustomEvent("sdp", { detail: unpackSdp(payload) }));
    }
  }
}
