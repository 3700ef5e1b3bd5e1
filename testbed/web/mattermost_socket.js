// The Mattermost WebSocket with the calls actions: opening, the token challenge, pings, coming back.

import { pack } from "./msgpack.js";

const PREFIX = "custom_com.mattermost.calls_";
const PING_INTERVAL_MS = 5000;
const FIRST_WAIT_MS = 1000;
const MORE_WAIT_MS = 500;
const GIVE_UP_MS = 30000;

/**
 * Events: "open" (each time it is authenticated; detail: {connectionId, previousId}), "calls" (detail: {name, data,
 * broadcast}), "lost", "gone" (it will not come back).
 */
export class MattermostSocket extends EventTarget {
  #url;
  #token;
  #socket = null;
  #seq = 0;
  #connectionId = "";
  #waitMs = FIRST_WAIT_MS;
  #lostAtMs = 0;
  #pinging = 0;
  #unanswered = 0;
  #closed = false;

  constructor(origin, token) {
    super();
    this.#url = `${origin.replace(/^http/, "ws")}/api/v4/websocket`;
    this.#token = token;
  }

  get connectionId() {
    return this.#connectionId;
  }

  open() {
    const socket = new WebSocket(`${this.#url}?connection_id=${this.#connectionId}&sequence_number=0`);
    this.#socket = socket;
    this.#seq = 0;
    socket.addEventListener("open", () => this.#request("authentication_challenge", { token: this.#token }));
    socket.addEventListener("message", (event) => this.#heard(JSON.parse(event.data)));
    socket.addEventListener("close", () => this.#lost(socket));
  }

  close() {
    this.#closed = true;
    clearInterval(this.#pinging);
    this.#socket?.close();
  }

  /** Cut the connection as a broken network would; it comes back by itself. */
  cut() {
    this.#socket?.close();
  }

  /** A calls action; `binary` goes as MessagePack. Lost while there is no connection. */
  send(name, data = null, { binary = false } = {}) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (binary) {
      this.#seq += 1;
      this.#socket.send(pack({ action: PREFIX + name, seq: this.#seq, data }));
    } else {
      this.#request(PREFIX + name, data);
    }
  }

  #request(action, data) {
    this.#seq += 1;
    this.#socket.send(JSON.stringify({ action, seq: this.#seq, data }));
  }

  #heard(frame) {
    if (frame.seq_reply !== undefined) {
      this.#unanswered = 0;
    } else if (frame.event === "hello") {
      const previousId = this.#connectionId;
      this.#connectionId = frame.data.connection_id;
      this.#waitMs = FIRST_WAIT_MS;
      this.#lostAtMs = 0;
      this.#startPings();
      this.#tell("open", { connectionId: this.#connectionId, previousId });
    } else if (frame.event?.startsWith(PREFIX)) {
      const { data, broadcast } = frame;
      this.#tell("calls", { name: frame.event.slice(PREFIX.length), data, broadcast });
    }
  }

  #startPings() {
    clearInterval(this.#pinging);
    this.#unanswered = 0;
    this.#pinging = setInterval(() => {
      if (this.#unanswered > 0) {
        this.#socket.close(4000);
        return;
      }
      this.#unanswered += 1;
      this.#request("ping", null);
    }, PING_INTERVAL_MS);
  }

  #lost(socket) {
    if (socket !== this.#socket || this.#closed) return;
    clearInterval(this.#pinging);
    this.#lostAtMs ||= performance.now();
    if (performance.now() - this.#lostAtMs > GIVE_UP_MS) {
      this.#tell("gone");
      return;
    }
    this.#tell("lost");
    setTimeout(() => this.#closed || this.open(), this.#waitMs);
    this.#waitMs += MORE_WAIT_MS;
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
