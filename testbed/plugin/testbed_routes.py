"""Control routes for the demo and the tests, under /testbed. No such thing exists in Mattermost.

Without authentication: the stand-in listens on loopback.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse

from testbed.plugin.calls import Calls
from testbed.plugin.hub import Hub
from testbed.plugin.uploads import Uploads


def testbed_routes(calls: Calls, uploads: Uploads, hub: Hub) -> APIRouter:
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
            "sessions": [session.public() for session in call.sessions.values()],
            "jobs": {
                kind: job.state() | {"job_id": job.job_id, "service_job_id": job.service_job_id}
                for kind, job in call.jobs.items()
            },
        }

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
        return FileResponse(stored.path, filename=stored.name)

    @router.get("/uploads")
    async def open_uploads() -> list[dict[str, Any]]:
        """Uploads in progress."""
        return [upload.public() for upload in uploads.open.values()]

    @router.get("/captions")
    async def captions() -> list[dict[str, Any]]:
        """Every caption so far with the time it was broadcast."""
        return calls.captions

    @router.post("/faults")
    async def faults(request: Request) -> dict[str, Any]:
        """Set faults; see testbed.plugin.faults."""
        try:
            calls.faults.set(await request.json())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return asdict(calls.faults)

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
    async def renew_bot() -> dict[str, bool]:
        """Give the bot another token; the old one is revoked (trap 49)."""
        calls.world.renew_token(calls.world.bot)
        return {"renewed": True}

    return router
