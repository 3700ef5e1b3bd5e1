// What the page asks of the service. Requests that nobody made do not keep the session alive.

/** The service refused; `status` is HTTP's, 0 without an answer. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "the service does not answer");
  }
  return answer;
}

let aheadMs = 0;

/** Now by the service's clock, as far as its answers tell: this host's may be wrong. */
export const now = () => Date.now() + aheadMs;

function learnTime(answer) {
  const theirs = Date.parse(answer.headers.get("Date") ?? "");
  const apart = theirs + 500 - Date.now();
  aheadMs = Math.abs(apart) > 2000 ? apart : 0; // NaN, which is no answer, is none apart
}

async function json(path, options) {
  const answer = await ask(path, options);
  learnTime(answer);
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok && !document.reasons) {
    if (answer.status === 401 && path !== "page/login") {
      window.dispatchEvent(new Event("logged-out"));
    }
    throw new Refused(answer.status, document.error ?? `HTTP ${answer.status}`);
  }
  return document;
}

const BACKGROUND = { headers: { "X-Background": "1" } };

/** A GET somebody asked for. */
export const get = (path) => json(`page/api/${path}`);
/** A GET that the page makes by itself. */
export const look = (path) => json(`page/api/${path}`, BACKGROUND);
/** A change. */
export const post = (path) => json(`page/api/${path}`, { method: "POST" });

export const login = (key) => json("page/login", { method: "POST", body: JSON.stringify({ key }) });
export const logout = () => json("page/logout", { method: "POST" });
/** The session's facts, or null when there is none. */
export async function session() {
  const facts = await json("page/session", BACKGROUND);
  return facts.logged_in ? facts : null;
}

/** The log of a job as it comes, by pieces of text; ends with the job or with `signal`. */
export async function* log(id, { follow, signal }) {
  const answer = await ask(`page/api/jobs/${id}/logs${follow ? "?follow=1" : ""}`, { ...BACKGROUND, signal });
  if (!answer.ok) {
    throw new Refused(answer.status, `HTTP ${answer.status}`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    yield value;
  }
}
