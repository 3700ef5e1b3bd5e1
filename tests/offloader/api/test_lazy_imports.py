"""The plugin's first two questions are answered before anything heavy is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "numpy",
    "av",
    "PIL",
    "aiortc",
    "aioice",
    "ctranslate2",
    "faster_whisper",
    "onnxruntime",
    "docker",
    "kubernetes_asyncio",
    "aiohttp",
    "celery",
    "jobs",
    "rtc",
    "callclient",
)
SCRIPT = """
import asyncio, base64, json, os, sys
from pathlib import Path
from offloader.app import running_offloader
from offloader.http_server import HttpServer
from offloader.settings import load_settings

async def main():
    settings = load_settings(Path("none.toml"), os.environ)
    async with running_offloader(settings, environ=os.environ) as offloader:
        HttpServer(offloader.app)
        statuses = [await ask(offloader.app, "GET", "/version", b"", [])]
        body = b'{"Runners":["mattermost/calls-recorder:v0.8.13"]}'
        token = base64.b64encode(b"plugin:" + b"k" * 32)
        basic = [(b"authorization", b"Basic " + token)]
        statuses.append(await ask(offloader.app, "POST", "/jobs/init", body, basic))
        print(json.dumps({"statuses": statuses, "modules": sorted(sys.modules)}))

async def ask(app, method, path, body, headers):
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
             "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
             "root_path": "", "headers": headers, "client": ("127.0.0.1", 1), "server": ("h", 80)}
    status = []
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message):
        status.append(message.get("status"))
    await app(scope, receive, send)
    return status[0]

asyncio.run(main())
"""


def test_version_and_init_are_answered_before_any_heavy_import(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.getcwd(),
        "STORE_DATASOURCE": str(tmp_path / "store.db"),
        "JOBS_APITYPE": "process",
        "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "LOGGER_ENABLEFILE": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout.decode().splitlines()[-1])
    assert told["statuses"] == [200, 200]
    imported = {name.partition(".")[0] for name in told["modules"]}
    assert imported.isdisjoint(HEAVY)
    assert not [name for name in told["modules"] if name.startswith("opentelemetry.sdk")]
