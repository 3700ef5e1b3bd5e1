"""HTTP routes of the plugin (section 5): the bot's, the host's, and what others need."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from testbed.plugin import pictures
from testbed.plugin.call import Call
from testbed.plugin.calls import Calls, now_ms
from testbed.plugin.jobs import JobLifecycle, RequestRefused
from testbed.plugin.posts import NotLinked
from testbed.plugin.rate_limit import RateLimit
from testbed.plugin.uploads import UploadRefused, Uploads
from testbed.plugin.world import User

PLUGIN = "/plugins/com.mattermost.calls"
VERSION = {"version": "1.12.2", "build": "standin"}

Handler = Callable[[User, Request], Awaitable[Response]]


class PluginRoutes:
    """Answers as the plugin does; `router` goes into the application."""

    def __init__(self, calls: Calls, jobs: JobLifecycle, uploads: Uploads) -> None:
        self._calls = calls
        self._jobs = jobs
        self._uploads = uploads
        self._limits: dict[str, RateLimit] = {}
        self.router = APIRouter()
        self._add_bot_routes()
        self._add_user_routes()

    def _add_bot_routes(self) -> None:
        bot = f"{PLUGIN}/bot"
        self._bot("GET", f"{bot}/channels/{{channel_id}}", self._channel)
        self._bot("GET", f"{bot}/users/{{user_id}}/image", self._image)
        self._bot(
            "GET", f"{bot}/calls/{{channel_id}}/sessions/{{session_id}}/profile", self._profile
        )
        self._bot("GET", f"{bot}/calls/{{channel_id}}/filename", self._filename)
        self._bot("POST", f"{bot}/uploads", self._create_upload)
        self._bot("GET", f"{bot}/uploads/{{upload_id}}", self._get_upload)
        self._bot("POST", f"{bot}/uploads/{{upload_id}}", self._upload_data)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/recordings", self._recordings)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/transcriptions", self._transcriptions)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/jobs/{{job_id}}/status", self._status)

    def _add_user_routes(self) -> None:
        call = f"{PLUGIN}/calls/{{channel_id}}"
        self._user("GET", f"{PLUGIN}/config", self._config)
        self._user("GET", f"{PLUGIN}/turn-credentials", self._turn_credentials)
        self._user("GET", f"{call}/active", self._active)
        self._user("POST", f"{call}/recording/{{action}}", self._recording)
        self._user("POST", f"{call}/host/{{action}}", self._host)
        self._user("POST", f"{call}/end", self._end)
        self._user("POST", "/api/v4/users/ids", self._users_by_ids, limited=False)
        self._user("GET", "/api/v4/users/{user_id}/image", self._image, limited=False)

        @self.router.get(f"{PLUGIN}/version")
        async def version() -> dict[str, str]:
            return VERSION

    # who may

    def _bot(self, method: str, path: str, handler: Handler) -> None:
        async def guarded(request: Request) -> Response:
            user = self._authenticate(request)
            if user is None:
                return PlainTextResponse("Unauthorized\n", status_code=401)
            if user is not self._calls.world.bot:
                return PlainTextResponse("Forbidden\n", status_code=403)
            return await _answer(handler, user, request)

        self.router.add_api_route(path, guarded, methods=[method])

    def _user(self, method: str, path: str, handler: Handler, *, limited: bool = True) -> None:
        async def guarded(request: Request) -> Response:
            user = self._authenticate(request)
            if user is None:
                return PlainTextResponse("Unauthorized\n", status_code=401)
            limit = self._limits.setdefault(user.user_id, RateLimit(rate_per_s=1, burst=10))
            if limited and not limit.allow(time.monotonic()):
                text = json.dumps({"message": "too many requests", "status_code": 429})
                return PlainTextResponse(text, status_code=429)
            return await _answer(handler, user, request)

        self.router.add_api_route(path, guarded, methods=[method])

    def _authenticate(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.query_params.get("access_token", "")
        return self._calls.world.by_token(token.strip()) if token else None

    def _call(self, request: Request) -> Call | None:
        """The call of the channel in the path; a call's own id finds none (trap 1)."""
        call = self._calls.current
        return call if call and request.path_params["channel_id"] == call.channel_id else None

    # the bot's

    async def _channel(self, user: User, request: Request) -> Response:
        world = self._calls.world
        if request.path_params["channel_id"] != world.channel_id:
            return _json(None)  # 200 and null (trap 52)
        channel = {"id": world.channel_id, "team_id": world.team_id, "type": "O"}
        return _json(channel | {"display_name": world.channel_name, "name": "town-square"})

    async def _image(self, user: User, request: Request) -> Response:
        wanted = self._calls.world.by_id(request.path_params["user_id"])
        if wanted is None:
            raise RequestRefused(404, "not found")
        return Response(pictures.initials_png(wanted), media_type="image/png")

    async def _profile(self, user: User, request: Request) -> Response:
        call = self._call(request)
        if call is None:
            raise RequestRefused(400, "no call ongoing")
        session = call.sessions.get(request.path_params["session_id"])
        if session is None:
            raise RequestRefused(404, "not found")
        return _json(session.user.profile())

    async def _filename(self, user: User, request: Request) -> Response:
        name = self._calls.world.channel_name.replace(" ", "_")
        stamp = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
        return _json({"filename": f"Call_{name}_{stamp}"})

    async def _create_upload(self, user: User, request: Request) -> Response:
        body = await _object(request)
        if body.get("channel_id") != self._calls.world.channel_id:
            raise RequestRefused(400, "unknown channel")
        size = body.get("file_size")
        upload = self._uploads.create(
            user,
            self._calls.world.channel_id,
            str(body.get("filename") or ""),
            size if isinstance(size, int) else 0,
            now_ms(),
        )
        return _json(upload.public())  # 200, not 201 (trap 34)

    async def _get_upload(self, user: User, request: Request) -> Response:
        return _json(self._uploads.get(request.path_params["upload_id"]).public())

    async def _upload_data(self, user: User, request: Request) -> Response:
        faults = self._calls.faults
        if faults.take("refuse_upload_parts"):
            raise RequestRefused(500, "storage is not available")
        stored = await self._uploads.receive(
            user,
            request.path_params["upload_id"],
            _chunks(request),
            damage=faults.take("damage_upload_parts"),
        )
        if stored is None:
            return Response(status_code=204)
        return _json({"id": stored.file_id, "name": stored.name, "size": stored.size_bytes})

    async def _recordings(self, user: User, request: Request) -> Response:
        body = await _object(request)
        files = _file_ids(body.get("FileIDs"))
        _require(body, "PostID")
        if not files:
            raise RequestRefused(400, "invalid FileIDs length")
        _require(body, "JobID")
        archive = self._calls.archive
        call_post = archive.posts.get(str(body["PostID"]))
        if call_post is None:
            raise RequestRefused(500, "post not found")
        archive.publish_recording(
            call_post=call_post, job_id=str(body["JobID"]), file_ids=files, now_ms=now_ms()
        )
        return self._published()

    async def _transcriptions(self, user: User, request: Request) -> Response:
        body = await _object(request)
        _require(body, "PostID")
        transcriptions = body.get("Transcriptions")
        if not isinstance(transcriptions, list) or not transcriptions:
            raise RequestRefused(400, "invalid Transcriptions length")
        first = transcriptions[0] if isinstance(transcriptions[0], dict) else {}
        if not first.get("Language"):
            raise RequestRefused(400, "language should not be empty")
        files = _file_ids(first.get("FileIDs"))
        if len(files) < 2:
            raise RequestRefused(400, "invalid FileIDs length")
        _require(body, "JobID")
        archive = self._calls.archive
        call_post = archive.posts.get(str(body["PostID"]))
        if call_post is None:
            raise RequestRefused(500, "post not found")
        try:
            archive.publish_transcription(
                call_post=call_post,
                job_id=str(body["JobID"]),
                language=str(first["Language"]),
                title=str(first.get("Title") or ""),
                file_ids=files,
                now_ms=now_ms(),
            )
        except NotLinked as error:  # after the post was made (trap 36)
            raise RequestRefused(500, str(error)) from None
        return self._published()

    def _published(self) -> Response:
        if self._calls.faults.take("lose_publish_answers"):
            raise RequestRefused(500, "failed after the post was made")
        return _success()

    async def _status(self, user: User, request: Request) -> Response:
        body = await _object(request)
        self._jobs.report(
            self._call(request),
            request.path_params["job_id"],
            job_type=str(body.get("JobType") or ""),
            status=str(body.get("Status") or ""),
            error=str(body.get("omitempty") or ""),  # `Error` is lost (trap 31)
        )
        return _success()

    # everybody's

    async def _config(self, user: User, request: Request) -> Response:
        return _json(
            {
                "AllowEnableCalls": True,
                "DefaultEnabled": True,
                "ICEServers": [],
                "ICEServersConfigs": [],
                "MaxCallParticipants": 0,
                "NeedsTURNCredentials": False,
                "AllowScreenSharing": True,
                "EnableRecordings": True,
                "EnableTranscriptions": True,
                "EnableLiveCaptions": True,
                "MaxRecordingDuration": 60,
                "EnableSimulcast": False,
                "EnableRinging": False,
                "sku_short_name": "enterprise",
                "HostControlsAllowed": True,
                "EnableAV1": False,
                "GroupCallsAllowed": True,
                "EnableDCSignaling": False,
                "EnableVideo": False,
            }
        )

    async def _turn_credentials(self, user: User, request: Request) -> Response:
        raise RequestRefused(403, "TURN is not configured")

    async def _active(self, user: User, request: Request) -> Response:
        return _json({"active": self._call(request) is not None})

    async def _recording(self, user: User, request: Request) -> Response:
        match request.path_params["action"]:
            case "start":
                job = await self._jobs.start(self._call(request), user.user_id)
            case "stop":
                job = await self._jobs.stop(self._call(request), user.user_id)
            case _:
                raise RequestRefused(400, "invalid action")
        return _json(job.state())

    async def _host(self, user: User, request: Request) -> Response:
        call = self._call(request)
        if call is None or user.user_id != call.host_id:
            raise RequestRefused(400, "no permissions")
        action = request.path_params["action"]
        if action == "end":
            self._calls.end_for_all()
            return _success()
        body = await _object(request)
        if action == "make":
            call.host_id = str(body.get("new_host_id") or "")
            event = {"hostID": call.host_id, "call_id": call.call_id}
            self._calls.tell_participants(call, "call_host_changed", event)
            return _success()
        raise RequestRefused(400, f"host action {action!r} is not built into the stand-in")

    async def _end(self, user: User, request: Request) -> Response:
        call = self._call(request)
        if call is None:
            raise RequestRefused(400, "no call ongoing")
        if user.user_id != call.host_id:
            raise RequestRefused(400, "no permissions to end the call")
        self._calls.end_for_all()
        return _success()

    async def _users_by_ids(self, user: User, request: Request) -> Response:
        try:
            ids = json.loads(await request.body())
        except ValueError:
            raise RequestRefused(400, "invalid body") from None
        found = [self._calls.world.by_id(str(i)) for i in ids] if isinstance(ids, list) else []
        return _json([u.profile() for u in found if u is not None])


async def _answer(handler: Handler, user: User, request: Request) -> Response:
    try:
        return await handler(user, request)
    except RequestRefused as error:
        body = {"message": error.text, "status_code": error.status}
        return _json(body, status=error.status)
    except UploadRefused as refused:
        body = {
            "id": refused.error_id,
            "message": refused.message,
            "status_code": refused.status,
        }
        return _json(body, status=refused.status)


async def _object(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.body())
    except ValueError:
        raise RequestRefused(400, "invalid body") from None
    if not isinstance(value, dict):
        raise RequestRefused(400, "invalid body")
    return value


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


def _require(body: dict[str, Any], name: str) -> None:
    if not body.get(name):
        raise RequestRefused(400, f"{name} should not be empty")


def _file_ids(value: Any) -> list[str]:
    return [str(v) for v in value if v] if isinstance(value, list) else []


def _success() -> Response:
    return _json({"message": "success", "status_code": 200})


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(value), status_code=status, media_type="application/json")
