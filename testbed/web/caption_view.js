// Live captions: what grows while somebody speaks, and a log of what was said, which is read aloud line by line.

const MAX_LINES = 100;
const SAME_SENTENCE_MS = 1500;

const last = new Map();

/** Show `captions` (session to {text}); a text is done when it goes, or when another one begins. */
export function showCaptions(captions, userName) {
  const shown = document.getElementById("captions");
  for (const [sessionId, { text, name, ms }] of [...last]) {
    const now = captions.get(sessionId)?.text;
    if (now === text || (now !== undefined && grows(text, now, performance.now() - ms))) continue;
    note(name, text);
    last.delete(sessionId);
  }
  for (const [sessionId, { text }] of captions) {
    if (last.get(sessionId)?.text === text) continue;
    last.set(sessionId, { text, name: userName(sessionId), ms: performance.now() });
  }
  for (const line of [...shown.children]) if (!last.has(line.dataset.session)) line.remove();
  for (const [sessionId, { text, name }] of last) {
    let line = shown.querySelector(`[data-session="${sessionId}"]`);
    if (!line) {
      line = document.createElement("div");
      line.dataset.session = sessionId;
      line.append(document.createElement("p"));
      shown.append(line);
    }
    const words = `${name}: ${text}`;
    if (line.textContent !== words) line.firstChild.textContent = words;
  }
}

/** The call is over. */
export function clearCaptions() {
  last.clear();
  document.getElementById("captions").replaceChildren();
  document.getElementById("said").replaceChildren();
}

/** Captions come again with more words, or with some corrected. */
function grows(before, now, sinceMs) {
  const [was, is] = [before.split(" "), now.split(" ")];
  return is.length >= was.length && (is[0] === was[0] || sinceMs < SAME_SENTENCE_MS);
}

function note(name, text) {
  const log = document.getElementById("said");
  const line = document.createElement("li");
  line.textContent = `${name}: ${text}`;
  log.append(line);
  while (log.children.length > MAX_LINES) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}
