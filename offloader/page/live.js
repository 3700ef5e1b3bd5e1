// The stream of job events: opened while the tab is looked at, and again whenever it ends.

import { session } from "./api.js";

const LONGEST_WAIT_MS = 30_000;

/** Calls `onJob` with each job, `onOpen` at each (new) beginning, `onState` with "live", "paused" or "lost". */
export class Live {
  constructor({ onJob, onOpen, onDropped, onState }) {
    Object.assign(this, { onJob, onOpen, onDropped, onState });
    this.source = null;
    this.waitMs = 1000;
    this.timer = 0;
    this.wanted = false;
    document.addEventListener("visibilitychange", () => this.wanted && this.start());
  }

  start() {
    this.wanted = true;
    this.close();
    if (document.visibilityState === "hidden") {
      this.onState("paused"); // browsers have few connections for each service: leave them to other tabs
      return;
    }
    const source = new EventSource("page/api/events");
    this.source = source;
    source.addEventListener("open", () => {
      this.waitMs = 1000;
      this.onState("live");
      this.onOpen();
    });
    source.addEventListener("job", (event) => this.onJob(JSON.parse(event.data)));
    source.addEventListener("dropped", () => this.onDropped());
    source.addEventListener("error", () => this.source === source && this.retry());
  }

  stop() {
    this.wanted = false;
    this.close();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  retry() {
    this.close();
    this.onState("lost");
    this.timer = setTimeout(async () => {
      const there = await session().catch(() => undefined);
      if (there === null) {
        window.dispatchEvent(new Event("logged-out"));
      } else if (this.wanted) {
        this.start();
      }
    }, this.waitMs);
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }
}
