"""What the service's doors leave in the audit: who did what to what, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from foundation.layered_config import ConfigError
from offloader.api.audited import action_of
from offloader.audit_chain import verify
from offloader.audit_file import line_digest

ADMIN_KEY = "the-admin's-own-key-of-this-test"
WRONG = "w" * 32
ADMIN = {
    "API_SECURITY_ENABLEADMIN": "true",
    "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY,
    "API_ADMIN_SHOWCONTENT": "true",
}


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """`told()`: the records of the services that have ended."""

    def read() -> list[dict[str, Any]]:
        path = tmp_path / "store.audit.jsonl"
        assert not verify(path).broken
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    return read


async def test_clients_and_admin_leave_a_record_of_each_deed(
    serve: Any, tmp_path: Path, told: Any
) -> None:
    async with serve(tmp_path, **ADMIN) as served:
        http, plugin = served.http, served.basic("plugin")
        config = {
            "type": "recording",
            "runner": "mattermost/calls-recorder:v0.8.13",
            "max_duration_sec": 3600,
            "input_data": {"call_id": "call1", "post_id": "post1", "auth_token": "the-token"},
        }
        headers = plugin | {"X-Request-Id": "request-1"}
        job_id = (await http.post("/jobs", json=config, headers=headers)).json()["id"]
        served.backend.files["post1/Anna Example.mp4"] = b"speech"
        await http.get(f"/jobs/{job_id}", headers=plugin)
        await http.get(f"/jobs/{job_id}/logs", headers=plugin)
        await http.get(f"/jobs/{job_id}/artifacts/post1/Anna%20Example.mp4", headers=plugin)
        await http.post(f"/jobs/{job_id}/stop", headers=served.basic("plugin", WRONG))
        await http.post("/admin/drain", headers=plugin)
        admin = served.basic("admin", ADMIN_KEY)
        body = {"clientID": "other", "authKey": WRONG}
        await http.post("/admin/clients/add", json=body, headers=admin)
        await http.post("/login", json={"clientID": "other", "authKey": WRONG})
        await http.post("/login", json={"clientID": "my-key-in-the-wrong-field", "authKey": "x"})
        origin = {"Origin": str(http.base_url).rstrip("/")}
        await http.post("/page/login", json={"key": "wrong"}, headers=origin)
        await http.post("/page/login", json={"key": ADMIN_KEY}, headers=origin)
        await http.get(f"/page/api/jobs/{job_id}/logs")
        await http.post(f"/page/api/jobs/{job_id}/stop", headers=origin)
        await http.post("/page/logout", headers=origin)
        await http.get("/page/api/jobs")  # no session any more: nobody has tried a key
        await http.post("/unregister", json={"clientID": "other"}, headers=admin)
        transport = httpx.ASGITransport(served.offloader.local_app, client=("", 0))
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as local:
            await local.post(f"/jobs/{job_id}/republish")
    records = told()
    assert [
        (e["action"], e.get("who"), e.get("client", e.get("subject")), e.get("door"), e["result"])
        for e in records[1:]
    ] == [
        ("client.register", "client", "plugin", "network", "done"),
        ("job.start", "client", "plugin", "network", "done"),
        ("job.read_log", "client", "plugin", "network", "done"),
        ("job.open_file", "client", "plugin", "network", "done"),
        ("login.failed", "nobody", "plugin", "network", "refused"),
        ("service.drain", "client", "plugin", "network", "refused"),
        ("client.add", "admin", "other", "network", "done"),
        ("client.login", "client", "other", "network", "done"),
        ("login.failed", "nobody", None, "network", "refused"),
        ("login.failed", "nobody", None, "page", "refused"),
        ("page.login", "admin", None, "page", "done"),
        ("job.read_log", "admin", None, "page", "done"),
        ("job.stop", "admin", None, "page", "done"),
        ("page.logout", "admin", None, "page", "done"),
        ("client.unregister", "admin", "other", "network", "done"),
        ("job.republish", "admin", None, "socket", "refused"),
    ]
    started, opened = records[2], records[4]
    assert started["job"] == job_id
    assert (started["address"], started["request_id"]) == ("127.0.0.1", "request-1")
    assert opened["kind"] == "mp4"
    assert opened["name_sha256"] == line_digest(b"post1/Anna Example.mp4")
    text = json.dumps(records)
    for hidden in ("Anna", "the-token", "k" * 32, WRONG, ADMIN_KEY, "wrong-field", "call1"):
        assert hidden not in text


async def test_each_download_from_the_page_is_a_record_and_a_refused_one_too(
    serve: Any, tmp_path: Path, told: Any
) -> None:
    for shown in ("true", "false"):
        environ = ADMIN | {"API_ADMIN_SHOWCONTENT": shown}
        async with serve(tmp_path, **environ) as served:
            origin = {"Origin": str(served.http.base_url).rstrip("/")}
            await served.http.post("/page/login", json={"key": ADMIN_KEY}, headers=origin)
            for _ in range(2):
                await served.http.get("/page/api/jobs/abcdefghijkl/artifacts/r/a.mp4")
    views = [e for e in told() if e["action"] == "job.open_file"]
    assert [(e["job"], e["kind"], e["status"]) for e in views] == [
        *[("abcdefghijkl", "mp4", 404)] * 2,
        *[("abcdefghijkl", "mp4", 403)] * 2,
    ]


async def test_every_route_that_changes_something_is_known_to_the_audit(start: Any) -> None:
    """A new one needs a row in `offloader/api/audited.py`."""
    running = await start()
    made = running.offloader.app.openapi()["paths"]
    changing = {(m.upper(), path) for path, item in made.items() for m in item if m != "get"}
    assert len(changing) > 10
    unknown = {path for method, path in changing if not action_of(method, path)[0]}
    assert unknown == {"/jobs/init"}  # which only has images fetched


@pytest.mark.documents("an-audit-that-cannot-be-written")
async def test_a_file_that_somebody_asked_for_has_to_be_written(
    start: Any, tmp_path: Path, documented: Any
) -> None:
    (tmp_path / "a-directory").mkdir()
    with pytest.raises(ConfigError) as refused:
        await start(AUDIT_FILE=str(tmp_path / "a-directory"))
    documented("an-audit-that-cannot-be-written", str(refused.value))


async def test_where_nobody_asked_the_service_runs_and_counts_what_it_lost(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.audit._QUEUE", 1)
    (tmp_path / "store.audit.jsonl").mkdir()
    running = await start()
    await running.create_job()
    text = (await running.http.get("/metrics")).text
    assert "calls_offloader_audit_records_dropped_total 1.0" in text
