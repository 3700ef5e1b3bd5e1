"""Control routes for the demo and the tests, under /testbed. No such thing exists in Mattermost.

Without authentication: the stand-in listens on loopback.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse

from testbed.plugin.actions import Actions
from testbed.plugin.call import Call, Job
from testbed.plugin.calls import Calls
from testbed.plugin.client_config import ClientConfig
from testbed.plugin.hub import Hub
from testbed.plugin.rtcd_hosts import RtcdHosts
from testbed.plugin.spare_jobs import add_spare, stop_spare
from testbed.plugin.uploads import Uploads

_KINDS: Final = {
    ".mp4": "video/mp4",
    ".vtt": "text/vtt; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


def testbed_routes(
    calls: Calls,
    uploads: Uploads,
    hub: Hub,
    *,
    actions: Actions,
    config: ClientConfig,
    sfus: RtcdHosts,
) -> APIRouter:
    """The router."""
    router = APIRouter(prefix="/testbed")

    @router.get("/calls/{channel_id}")
    async def call_state(channel_id: str) -> dict[str, Any]:
        """Who is in the call and what its jobs do; times in epoch ms."""
        call = calls.current
        if call is None or channel_id != calls.world.channel_id:
            return {"active": False}
        return {
            "active": True,
            "call_id": call.call_id,
            "host_id": call.host_id,
            "post_id": call.post_id,
            "sfu_address": call.sfu_address,
            "sessions": [session.public() for session in call.sessions.values()],
            "jobs": {
                kind: job.state() | {"job_id": job.job_id, "service_job_id": job.service_job_id}
                for kind, job in call.jobs.items()
            },
        }

    @router.post("/spare_jobs")
    async def new_spare(request: Request) -> dict[str, Any]:
        """One more job for the call, of `type`; see testbed.plugin.spare_jobs."""
        call = calls.current
        if call is None:
            raise HTTPException(400, "no call ongoing")
        try:
            job = add_spare(calls, call, str((await request.json()).get("type")))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return {"job_id": job.job_id, "post_id": call.post_id, "channel_id": call.channel_id}

    @router.get("/spare_jobs/{job_id}")
    async def spare(job_id: str) -> dict[str, Any]:
        """How it is; times in epoch ms."""
        return _spare(job_id)[1].state()

    @router.post("/spare_jobs/{job_id}/stop")
    async def stop(job_id: str) -> dict[str, Any]:
        """Ask it to stop."""
        call, job = _spare(job_id)
        stop_spare(calls, call, job)
        return job.state()

    def _spare(job_id: str) -> tuple[Call, Job]:
        call = calls.current
        job = call.spares.get(job_id) if call is not None else None
        if call is None or job is None:
            raise HTTPException(404)
        return call, job

    @router.get("/posts/{channel_id}")
    async def posts(channel_id: str) -> list[dict[str, Any]]:
        """The thread, oldest first, with the files of each post."""
        archive = calls.archive
        result = []
        for post in archive.posts.values():
            files = [archive.files[f] for f in post.file_ids if f in archive.files]
            infos = [{"id": f.file_id, "name": f.name, "size": f.size_bytes} for f in files]
            result.append(asdict(post) | {"files": infos})
        return result

    @router.get("/files/{file_id}")
    async def file(file_id: str) -> FileResponse:
        stored = calls.archive.files.get(file_id)
        if stored is None:
            raise HTTPException(404)
        # Browsers want to know what they play, and a text has to be shown as the one it is.
        kind = _KINDS.get(Path(stored.name).suffix, "application/octet-stream")
        headers = {"X-Content-Type-Options": "nosniff"}
        return FileResponse(stored.path, media_type=kind, filename=stored.name, headers=headers)

    @router.get("/uploads")
    async def open_uploads() -> list[dict[str, Any]]:
        """Uploads in progress."""
        return [upload.public() for upload in uploads.open.values()]

    @router.get("/captions")
    async def captions() -> list[dict[str, Any]]:
        """Every caption so far with the time it was broadcast."""
        return actions.captions

    @router.post("/faults")
    async def faults(request: Request) -> dict[str, Any]:
        """Set faults; see testbed.plugin.faults."""
        try:
            calls.faults.set(await request.json())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return asdict(calls.faults)

    @router.post("/config")
    async def client_config(request: Request) -> dict[str, Any]:
        """Set switches of what clients are told; see testbed.plugin.client_config."""
        try:
            config.set(await request.json())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return config.public()

    @router.get("/sfus")
    async def sfu_hosts() -> list[dict[str, object]]:
        """The SFUs behind the one name, and how they are."""
        return sfus.describe()

    @router.get("/metrics")
    async def metrics() -> list[str]:
        """The names of the `metric` actions so far."""
        return actions.metrics

    @router.post("/cut/{session_id}")
    async def cut(session_id: str) -> dict[str, bool]:
        """Cut the WebSocket of a session."""
        session = calls.current.sessions.get(session_id) if calls.current is not None else None
        connection = hub.find(session.connection_id) if session is not None else None
        if connection is not None:
            connection.outgoing.close()
        return {"cut": connection is not None}

    @router.post("/revoke/{user_id}")
    async def revoke(user_id: str) -> dict[str, bool]:
        """Revoke a user's token, as a restart of the plugin does for the bot (trap 49)."""
        user = calls.world.by_id(user_id)
        if user is not None:
            calls.world.revoked.add(user.token)
        return {"revoked": user is not None}

    @router.post("/renew_bot")
    async def renew_bot() -> dict[str, str]:
        """Give the bot another token; the old one is revoked (trap 49)."""
        calls.world.renew_token(calls.world.bot)
        return {"token": calls.world.bot.token}

    return router
