// What the jobs of a call are doing, in a person's words.

const KINDS = [
  ["recording", "Recording", "it will be in the thread when it is uploaded"],
  ["transcribing", "Transcription", "the transcript will be in the thread when it is made"],
  ["captioning", "Live captions", ""],
];
const UNSAID = "it left the call without saying why; the job service knows more";

/** Show `jobs`, by type, as the plugin tells of them. */
export function showJobs(list, jobs) {
  const lines = KINDS.filter(([type]) => jobs[type]).map((kind) => [kind[0], ...told(kind, jobs[kind[0]])]);
  for (const item of [...list.children]) {
    if (!lines.some(([type]) => type === item.dataset.type)) item.remove();
  }
  for (const [type, look, words] of lines) {
    let item = list.querySelector(`[data-type="${type}"]`);
    if (!item) {
      item = document.createElement("li");
      item.dataset.type = type;
      list.append(item);
    }
    if (item.className !== look) item.className = look;
    if (item.textContent !== words) item.textContent = words;
  }
}

/** Whether a recording is asked for or going on. */
export function isRecording(jobs) {
  return Boolean(jobs.recording && !jobs.recording.end_at);
}

function told([, name, afterwards], { start_at: startAt, end_at: endAt, err }) {
  if (endAt && (err || !startAt)) return ["failed", `${name} failed: ${err || UNSAID}`];
  if (endAt) return ["ended", afterwards ? `${name} ended; ${afterwards}` : `${name} ended`];
  if (!startAt) return ["starting", `${name} is starting …`];
  return ["on", `${name} since ${new Date(startAt).toLocaleTimeString()}`];
}
