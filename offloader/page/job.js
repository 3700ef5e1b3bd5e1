// One job: what is known of it, its files, its log as it is written, stop and publish.

import { get, log, look, post } from "./api.js";
import { by, fillFacts, make } from "./dom.js";
import { fate, size, stage, time } from "./format.js";

const MOST_LINES = 2000;
const dialog = by("job");
let shown = "";
let showContent = false;
let reading = null;
let decide = () => {};

/** Ask before something is done; resolves to whether it shall be. */
function confirmed(title, text, yes) {
  by("confirm-title").textContent = title;
  by("confirm-text").textContent = text;
  by("confirm-yes").textContent = yes;
  by("confirm").showModal();
  by("confirm-no").focus();
  return new Promise((resolve) => {
    decide = resolve;
  });
}

// Not by the event `close`, which may come when the next question is asked already.
function decided(yes) {
  by("confirm").close();
  decide(yes);
}

function showFacts(job) {
  by("job-title").textContent = `${job.type === "recording" ? "Recording" : "Transcription"} ${job.id}`;
  const data = job.input_data;
  const publication = job.publication;
  fillFacts(by("job-facts"), [
    ["Stage", stage(job)],
    ["State", job.stop_reason ? `${job.state}: ${job.stop_reason}` : job.state],
    ["Deletion", fate(job)],
    ["Deletion asked for", job.deletion ? time(job.deletion.requested_at) : ""],
    ["Started", time(job.start_at)],
    ["Ended", job.stop_at ? time(job.stop_at) : ""],
    ["Ends at the latest", job.stop_at ? "" : time(job.deadline_at)],
    ["Host or worker", job.host],
    ["Client", job.client_id || "the admin"],
    ["Runner", job.runner],
    ["Site", data.site_url],
    ["Channel", data.call_id],
    ["Call's post", data.post_id],
    ["ID in Mattermost", data.recording_id || data.transcription_id],
    ["Publication", publication ? [publication.state, publication.detail].filter(Boolean).join(": ") : ""],
    ["Next attempt", publication?.next_at ? time(publication.next_at) : ""],
    ["Transcribed again", job.retranscription ? [job.retranscription.state, job.retranscription.detail].filter(Boolean).join(": ") : ""],
  ]);
  const failure = job.failure;
  by("job-failure").hidden = !failure;
  if (failure) {
    by("failure-title").textContent = `${failure.stage}: ${failure.cause}`;
    by("failure-step").textContent = failure.next_step ? `Next step: ${failure.next_step}` : "";
    fillFacts(
      by("failure-evidence"),
      Object.entries(failure.evidence).map(([name, value]) => [
        name.replaceAll("_", " "),
        Array.isArray(value) ? value.join("\n") : value,
      ]),
    );
  }
  by("job-stop").hidden = !["starting", "running"].includes(job.state) && job.retranscription?.state !== "running";
  by("job-republish").hidden = !job.unpublished || Boolean(job.deletion) || job.publication?.state === "running";
}

async function showFiles(id) {
  by("files").replaceChildren();
  by("files-note").textContent = "Loading …";
  try {
    const { artifacts } = await look(`jobs/${id}/artifacts`);
    if (shown !== id) {
      return;
    }
    by("files").replaceChildren(
      ...artifacts.map((file) => {
        const path = file.name.split("/").map(encodeURIComponent).join("/");
        const name = showContent
          ? make("a", { href: `page/api/jobs/${id}/artifacts/${path}`, download: "" }, file.name)
          : make("code", {}, file.name);
        return make("li", {}, name, ` ${size(file.size_bytes)}`);
      }),
    );
    const note = "Their content is not shown here: api.admin.show_content is off.";
    by("files-note").textContent = artifacts.length ? (showContent ? "" : note) : "None are kept.";
  } catch (error) {
    by("files-note").textContent = error.message;
  }
}

/** Of what is to be deleted neither files nor log are given out. */
function hideContent() {
  reading?.abort();
  by("files").replaceChildren();
  by("log").replaceChildren();
  by("files-note").textContent = "They are to be deleted.";
  by("log-state").textContent = "to be deleted";
}

/** Append text as it is; the oldest lines go when there are too many. */
class LogView {
  constructor() {
    this.element = by("log");
    this.element.replaceChildren();
    this.lines = 0;
    this.pending = "";
    this.frame = 0;
  }

  add(text) {
    this.pending += text;
    this.frame ||= setTimeout(() => this.flush(), 100);
  }

  flush() {
    this.frame = 0;
    const end = this.pending.lastIndexOf("\n") + 1;
    const whole = this.pending.slice(0, end).split("\n").slice(0, -1).slice(-MOST_LINES);
    this.pending = this.pending.slice(end);
    const element = this.element;
    element.append(...whole.map((line) => document.createTextNode(`${line}\n`)));
    this.lines += whole.length;
    for (; this.lines > MOST_LINES; this.lines -= 1) {
      element.firstChild.remove();
    }
    if (by("log-follow").checked) {
      element.scrollTop = element.scrollHeight;
    }
  }

  close() {
    clearTimeout(this.frame);
    this.pending += this.pending ? "\n" : "";
    this.flush();
  }
}

async function showLog(id, { follow }) {
  reading?.abort();
  reading = new AbortController();
  const { signal } = reading;
  const view = new LogView();
  by("log-state").textContent = follow ? "live" : "";
  try {
    for await (const text of log(id, { follow, signal })) {
      if (signal.aborted) {
        return;
      }
      view.add(text);
    }
    by("log-state").textContent = "complete";
  } catch (error) {
    if (!signal.aborted) {
      by("log-state").textContent = `broke off: ${error.message}`;
    }
  }
  if (!signal.aborted) {
    view.close();
  }
}

async function act(path, done) {
  const id = shown;
  by("job-done").textContent = "";
  by("job-error").textContent = "";
  try {
    const job = await post(`jobs/${id}/${path}`);
    if (shown === id) {
      showFacts(job);
      by("job-done").textContent = done;
      by("job-title").focus(); // the button may be gone
    }
  } catch (error) {
    by("job-error").textContent = error.message;
  }
}

/** Show the dialog of a job. */
export async function openJob(id) {
  shown = id;
  for (const name of ["job-error", "job-done", "files-note", "log-state"]) {
    by(name).textContent = "";
  }
  by("job-title").textContent = `Job ${id}`;
  by("job-failure").hidden = by("job-stop").hidden = by("job-republish").hidden = true;
  for (const name of ["job-facts", "files", "log"]) {
    by(name).replaceChildren();
  }
  if (!dialog.open) {
    dialog.showModal();
  }
  dialog.scrollTop = 0;
  by("job-title").focus();
  try {
    const job = await get(`jobs/${id}?details=1`);
    if (shown === id) {
      showFacts(job);
      if (job.deletion) {
        hideContent();
      } else {
        showFiles(id);
        showLog(id, { follow: job.state !== "finished" });
      }
    }
  } catch (error) {
    by("job-error").textContent = error.message;
  }
}

/** A job has changed: show it, if it is the one that is shown. */
export function jobChanged(job) {
  if (shown === job.id) {
    showFacts(job);
    if (job.deletion) {
      hideContent();
    } else if (job.state === "finished") {
      showFiles(job.id);
    }
  }
}

/** A job was deleted: say so, if it is the one that is shown. */
export function jobGone(id) {
  if (shown === id) {
    by("job-facts").replaceChildren();
    by("job-error").textContent = "This job was deleted.";
  }
}

export function closeJob() {
  decided(false);
  dialog.close();
}

export function allowContent(allowed) {
  showContent = allowed;
}

by("job-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  if (!dialog.open) { // another job may be shown already
    shown = "";
    reading?.abort();
  }
});
by("confirm").addEventListener("cancel", () => decide(false));
by("confirm-no").addEventListener("click", () => decided(false));
by("confirm-yes").addEventListener("click", () => decided(true));
by("job-stop").addEventListener("click", async () => {
  const text = "It ends as if its call were over: what it has until now is finished and published. This cannot be undone.";
  if (await confirmed(`Stop job ${shown}?`, text, "Stop it")) {
    await act("stop", "It was told to stop.");
  }
});
by("job-republish").addEventListener("click", async () => {
  const text = "What it could not publish is tried again now, with the newest token that is known for its site.";
  if (await confirmed(`Publish the result of job ${shown}?`, text, "Publish it")) {
    await act("republish", "It is tried now.");
  }
});
