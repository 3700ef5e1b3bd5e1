// How times, sizes and states are written.

const two = (number) => String(number).padStart(2, "0");

/** Local time with its offset, such as 2026-01-31 10:00:00 +01:00, as a <time>. */
export function time(ms) {
  const at = new Date(ms);
  const minutes = -at.getTimezoneOffset();
  const ahead = Math.abs(minutes);
  const offset = `${minutes < 0 ? "-" : "+"}${two(Math.trunc(ahead / 60))}:${two(ahead % 60)}`;
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const element = document.createElement("time");
  element.dateTime = at.toISOString();
  element.textContent = `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ${offset}`;
  return element;
}

/** 1:02:03 or 4:05. */
export function duration(ms) {
  const seconds = Math.max(Math.trunc(ms / 1000), 0);
  const hours = Math.trunc(seconds / 3600);
  const rest = `${Math.trunc((seconds % 3600) / 60)}`;
  return hours ? `${hours}:${two(rest)}:${two(seconds % 60)}` : `${rest}:${two(seconds % 60)}`;
}

/** 1.4 GiB. */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

const AFTER_CALL = { recording: "after the call: publishing", transcribing: "after the call: transcribing, publishing" };
const STATES = { pending: "launching", starting: "starting", running: "in the call", stopping: "ending" };

/** What keeps a job from being deleted, or its deletion waiting, in words; empty: neither. */
export function fate(job) {
  if (job.hold) {
    return `on hold: exempt from every deletion (${job.hold})`;
  }
  return job.deletion ? `to be deleted ${job.deletion.when}` : "";
}

/** Where a job is, in words. */
export function stage(job) {
  if (job.state === "finished") {
    return job.failure ? job.failure.stage : "ended well";
  }
  return job.state === "running" && job.post_call ? AFTER_CALL[job.type] : STATES[job.state];
}

/** The same for a table, with what becomes of it in few words. */
export function stageAndFate(job) {
  const short = job.hold ? "on hold" : job.deletion ? "to be deleted" : "";
  return short ? `${stage(job)}; ${short}` : stage(job);
}
