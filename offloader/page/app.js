// The page: who is logged in, what is shown, and how it stays true.

import { login, logout, look, get, session } from "./api.js";
import { announce, by, make } from "./dom.js";
import { size, stageAndFate } from "./format.js";
import { allowContent, closeJob, jobChanged, jobGone, openJob } from "./job.js";
import { Live } from "./live.js";
import { showEnded, showLive, tick } from "./tables.js";
import { beginTheme } from "./theme.js";

const PAGE = 50;
const MOST_ENDED = 500;
const MOST_ASKED = 20;
const LOOK_EVERY_MS = 10_000;
const SETTLE_MS = 1500;

const live = new Map();
const ended = new Map();
let older = null;
let pendingDraw = 0;
let pendingLook = 0;

function draw() {
  pendingDraw ||= requestAnimationFrame(() => {
    pendingDraw = 0;
    const all = by("all-ended").checked;
    showLive([...live.values()], openJob);
    showEnded([...ended.values()].filter((job) => all || job.failure), openJob, { all });
    by("more").hidden = older === null;
    by("ended-title").textContent = all ? "Ended jobs" : "Last failures";
  });
}

function keep(job) {
  const [here, there] = job.state === "finished" ? [ended, live] : [live, ended];
  there.delete(job.id);
  here.set(job.id, job);
  if (ended.size > MOST_ENDED) {
    ended.delete(ended.keys().next().value);
  }
}

function jobCame(job) {
  const before = live.get(job.id);
  fresh?.add(job.id);
  keep(job);
  jobChanged(job);
  if (!before && job.state !== "finished") {
    announce(`A ${job.type} job began`);
  } else if (before && stageAndFate(before) !== stageAndFate(job)) {
    announce(`A ${job.type} job: ${job.failure ? `failed, ${job.failure.cause}` : stageAndFate(job)}`);
  }
  draw();
  pendingLook ||= setTimeout(() => {
    pendingLook = 0;
    showNow();
  }, 500);
}

/** No event tells that a job is deleted at last: those that wait for it are asked for. */
async function dropDeleted() {
  const waiting = [...ended.values()].filter((job) => job.deletion).slice(0, MOST_ASKED);
  for (const { id } of waiting) {
    try {
      await look(`jobs/${id}?details=1`);
    } catch (error) {
      if (error.status === 404 && ended.delete(id)) {
        jobGone(id);
        announce("A job was deleted");
        draw();
      }
    }
  }
}

let fresh = null;

/** The stream begins with what lives now; what it does not tell of has ended while nobody listened. */
function streamBegan() {
  fresh = new Set();
  const seen = fresh;
  loadEnded();
  setTimeout(() => {
    if (seen !== fresh) {
      return;
    }
    for (const id of live.keys()) {
      if (!seen.has(id)) {
        live.delete(id);
      }
    }
    fresh = null;
    draw();
  }, SETTLE_MS);
}

async function loadEnded() {
  try {
    const page = await look(`jobs?state=finished&limit=${PAGE}`);
    page.jobs.forEach(keep);
    older = page.next;
    draw();
  } catch (error) {
    by("ended-empty").textContent = `Jobs cannot be listed: ${error.message}`;
  }
}

function set(id, text, className = "") {
  const element = by(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
  element.className = className;
}

/** Capacity, health, what waits: asked for now and then. */
async function showNow() {
  if (document.visibilityState === "hidden") {
    return;
  }
  try {
    const [room, ready, status] = await Promise.all([look("capacity"), look("readyz"), look("admin/status")]);
    const reasons = [...(ready.reasons ?? [])];
    if (!room.draining && room.free === 0) {
      reasons.push(`all ${room.limit} places for calls are taken (jobs.max_concurrent_jobs)`);
    }
    const little = room.free_disk_bytes !== null && room.min_free_disk_bytes !== null && room.free_disk_bytes < room.min_free_disk_bytes;
    if (little) {
      reasons.push(`only ${size(room.free_disk_bytes)} of disk are free (jobs.min_free_disk: ${size(room.min_free_disk_bytes)})`);
    }
    set("ready", reasons.length ? "refused" : "taken", reasons.length ? "is-bad" : "good");
    set("calls", `${room.calls_in_progress} of ${room.limit}`);
    set("disk", room.free_disk_bytes === null ? "unknown" : size(room.free_disk_bytes), little ? "is-bad" : "");
    set("waiting", String(status.unpublished.waiting), status.unpublished.waiting ? "is-bad" : "");
    set("given-up", String(status.unpublished.given_up), status.unpublished.given_up ? "is-bad" : "");
    const shownReasons = [...by("reasons").children].map((item) => item.textContent);
    if (shownReasons.join("\n") !== reasons.join("\n")) {
      by("reasons").replaceChildren(...reasons.map((reason) => make("li", {}, reason)));
      announce(reasons.length ? `New jobs are refused: ${reasons.join("; ")}` : "New jobs are taken");
    }
    by("refusals").hidden = reasons.length === 0;
    await dropDeleted();
  } catch (error) {
    if (error.status !== 401) {
      set("ready", "unknown", "is-bad");
    }
  }
}

const stream = new Live({
  onJob: jobCame,
  onOpen: streamBegan,
  onDropped: () => stream.start(),
  onState(state) {
    const texts = { live: "live", paused: "paused", lost: "connection lost, trying again" };
    by("connection").hidden = false;
    set("connection", texts[state], state === "lost" ? "badge is-bad" : "badge");
  },
});
let ticking = 0;
let looking = 0;

function showOverview(facts) {
  allowContent(facts.show_content);
  by("version").textContent = facts.version;
  by("login").hidden = true;
  by("overview").hidden = by("logout").hidden = false;
  showNow();
  stream.start();
  ticking ||= setInterval(tick, 1000);
  looking ||= setInterval(showNow, LOOK_EVERY_MS);
}

function showLogin(reason = "") {
  stream.stop();
  clearInterval(ticking);
  clearInterval(looking);
  ticking = looking = 0;
  closeJob();
  live.clear();
  ended.clear();
  draw();
  by("version").textContent = "";
  by("overview").hidden = by("logout").hidden = by("connection").hidden = true;
  by("login").hidden = false;
  by("login-error").textContent = reason;
  by("key").value = "";
  by("key").focus();
}

by("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  by("login-error").textContent = "";
  try {
    showOverview(await login(by("key").value));
    by("key").value = "";
    by("main").focus();
  } catch (error) {
    by("login-error").textContent = error.status === 401 ? "That is not the admin's key." : error.message;
    by("key").select();
  } finally {
    button.disabled = false;
  }
});
by("logout").addEventListener("click", async () => {
  await logout().catch(() => null);
  showLogin();
});
window.addEventListener("logged-out", () => by("login").hidden && showLogin("The session has ended: log in again."));
by("all-ended").addEventListener("change", draw);
by("more").addEventListener("click", async () => {
  by("more").disabled = true;
  try {
    const page = await get(`jobs?state=finished&limit=${PAGE}&before=${encodeURIComponent(older)}`);
    page.jobs.forEach(keep);
    older = ended.size < MOST_ENDED ? page.next : null;
    draw();
  } catch (error) {
    announce(`Older jobs cannot be listed: ${error.message}`);
  } finally {
    by("more").disabled = false;
  }
});

by("in-the-clear").hidden = window.isSecureContext; // loopback is
beginTheme();
session().then(
  (facts) => (facts ? showOverview(facts) : showLogin()),
  () => showLogin("The service does not answer."),
);
