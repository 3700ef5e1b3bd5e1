// The two tables. A row stays the same element while its job does, so that the focus stays where it is.

import { now } from "./api.js";
import { by, make } from "./dom.js";
import { duration, stageAndFate, time } from "./format.js";

const MOST_LIVE = 500;

function cell(label, content, className = "") {
  const element = make("td", { className }, content);
  element.dataset.label = label;
  return element;
}

function idCell(job, open) {
  const button = make("button", { type: "button", className: "link" }, job.id);
  button.addEventListener("click", () => open(job.id));
  const element = make("th", { scope: "row" }, button);
  element.dataset.label = "Job";
  return element;
}

function liveCells(job) {
  const elapsed = cell("Elapsed", duration(now() - job.start_at), "number");
  elapsed.dataset.since = job.start_at;
  return [
    cell("Type", job.type, "whole"),
    cell("Stage", stageAndFate(job)),
    elapsed,
    cell("Host or worker", job.host || "this one"),
    cell("Client", job.client_id || "the admin"),
  ];
}

function endedCells(job) {
  const { cause, next_step: step } = job.failure ?? { cause: "", next_step: "" };
  return [
    cell("Type", job.type, "whole"),
    cell("Stage", stageAndFate(job), job.failure ? "whole is-bad" : "whole good"),
    cell("Cause", cause || "–"),
    cell("Next step", step || "–"),
  ];
}

/** One row for each job, in their order; rows of jobs that are as they were are left alone. */
function fill(body, jobs, cells) {
  const rows = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const wanted = jobs.map((job) => {
    const told = JSON.stringify(job);
    let row = rows.get(job.id);
    if (!row) {
      row = make("tr", { className: "new" });
      row.dataset.id = job.id;
      row.append(...cells.first(job));
    } else if (row.told !== told) {
      const kept = cells.kept;
      [...row.cells].slice(kept).forEach((old) => old.remove());
      row.append(...cells.rest(job));
    }
    row.told = told;
    return row;
  });
  wanted.forEach((row, place) => body.rows[place] !== row && body.insertBefore(row, body.rows[place] ?? null));
  [...body.rows].slice(wanted.length).forEach((row) => row.remove());
}

function showOrSay(name, any, text) {
  by(`${name}-scroll`).hidden = !any;
  by(`${name}-empty`).hidden = any;
  by(`${name}-empty`).textContent = text;
}

/** Live jobs, the oldest first. */
export function showLive(jobs, open) {
  const shown = jobs.sort((a, b) => a.start_at - b.start_at).slice(0, MOST_LIVE);
  fill(by("live"), shown, {
    kept: 1,
    first: (job) => [idCell(job, open), ...liveCells(job)],
    rest: liveCells,
  });
  by("live-count").textContent = jobs.length ? `(${jobs.length})` : "";
  showOrSay("live", jobs.length > 0, "No job is running. They appear here as soon as a call is recorded.");
}

/** Ended jobs, the newest first. */
export function showEnded(jobs, open, { all }) {
  const shown = jobs.sort((a, b) => (b.stop_at ?? b.start_at) - (a.stop_at ?? a.start_at));
  fill(by("ended"), shown, {
    kept: 2,
    first: (job) => [
      cell("Ended", time(job.stop_at ?? job.start_at), "time"),
      idCell(job, open),
      ...endedCells(job),
    ],
    rest: endedCells,
  });
  showOrSay("ended", jobs.length > 0, all ? "No job has ended yet." : "No failures.");
}

/** Every second: how long each live job is at it. */
export function tick() {
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = duration(now() - Number(element.dataset.since));
  }
}
