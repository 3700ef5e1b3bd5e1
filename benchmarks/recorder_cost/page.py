"""The reference's page, stripped to what costs: eight tiles, or a film of the shared screen, and a footer."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.recorder_cost.cases import PARTICIPANTS, TALKERS

_STYLE = """
* { box-sizing: border-box; margin: 0; font-family: sans-serif; }
body { background: #14213e; color: #fff; height: 100vh; overflow: hidden;
       display: flex; flex-direction: column; }
main { flex: 1; min-height: 0; display: flex; justify-content: center; align-items: center; }
ul { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; list-style: none; padding: 0; }
li { width: 240px; height: 180px; border-radius: 8px; background: rgba(255, 255, 255, .08);
     display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 12px; }
li div { width: 72px; height: 72px; border-radius: 50%; background: #6a85c9;
         line-height: 72px; text-align: center; }
.speaking div { box-shadow: 0 0 0 3px #3db887; }
video { width: 100%; height: 100%; object-fit: contain; }
footer { height: 40px; padding: 10px 16px; background: rgba(0, 0, 0, .3);
         display: flex; justify-content: space-between; }
"""

_SCRIPT = """
const speaking = new Set();
function show() {
  document.querySelectorAll("li").forEach((tile, n) => tile.classList.toggle("speaking", speaking.has(n)));
  const names = [...speaking].map((n) => `Person ${n}`).join(", ");
  document.getElementById("talking").textContent = names && `${names} talking`;
}
function talk(n, period) {
  setInterval(() => {
    speaking.add(n); show();
    setTimeout(() => { speaking.delete(n); show(); }, period - 700);
  }, period);
}
for (let n = 0; n < TALKERS; n++) talk(n, 2500 + 700 * n);
"""


def write_page(directory: Path, film: Path | None) -> Path:
    """Write the page; `film` is what is shared, or None for the grid. Returns its path."""
    directory.mkdir(parents=True)
    if film is None:
        tiles = "".join(f"<li><div>P{n}</div>Person {n}</li>" for n in range(PARTICIPANTS))
        main = f"<ul>{tiles}</ul>"
    else:
        main = f"<video src={json.dumps(film.resolve().as_uri())} autoplay muted loop></video>"
    script = _SCRIPT.replace("TALKERS", str(TALKERS))
    path = directory / "page.html"
    path.write_text(
        f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><main>{main}</main>"
        f"<footer><span>• {PARTICIPANTS} participants</span><span id=talking></span></footer>"
        f"<script>{script}</script>"
    )
    return path
