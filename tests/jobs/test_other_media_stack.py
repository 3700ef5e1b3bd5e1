"""A call whose media is elsewhere: the job says so at once and does not try."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ID = "abcdefghijklmnopqrstuvwxy"


class Plugin(http.server.ThreadingHTTPServer):
    """Takes every request and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Plugin

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    server = Plugin()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.e2e
@pytest.mark.parametrize("job", ["recorder", "transcriber"])
@pytest.mark.documents("the-call-is-on-livekit")
def test_a_call_on_livekit_fails_within_5_s_with_that_reason(
    plugin: Plugin, tmp_path: Path, job: str, documented
) -> None:
    job_id = ID + "j"
    environ = {
        "PATH": os.environ["PATH"],
        "SITE_URL": f"http://127.0.0.1:{plugin.server_address[1]}",
        "CALL_ID": ID + "c",
        "POST_ID": ID + "p",
        "AUTH_TOKEN": ID + "t",
        "RECORDING_ID" if job == "recorder" else "TRANSCRIPTION_ID": job_id,
        "DATA_DIR": str(tmp_path),
        "LIVEKIT_URL": "wss://livekit.example.com",
    }
    began_s = os.times().children_user
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{job}"],
        env=environ,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=25,
        check=False,
    )
    took_s = os.times().children_user - began_s  # on a busy machine it is waited for
    assert done.returncode == 0, done.stderr.decode()
    [(path, body)] = plugin.requests
    assert path.endswith(f"/jobs/{job_id}/status")
    assert body["Status"] == "failed"
    assert body["JobType"] == ("recording" if job == "recorder" else "transcribing")
    documented("the-call-is-on-livekit", body["omitempty"])
    assert took_s < 5
    assert list(tmp_path.iterdir()) == []
