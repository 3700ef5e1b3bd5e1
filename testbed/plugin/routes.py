"""HTTP routes of the plugin (section 5): the bot's, the host's, and what others need."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from testbed.plugin import pictures, upload_faults
from testbed.plugin.answers import Handler, answer, read_object, success, to_json
from testbed.plugin.call import Call
from testbed.plugin.calls import Calls
from testbed.plugin.client_config import ClientConfig
from testbed.plugin.host_actions import HostActions
from testbed.plugin.jobs import JobLifecycle, RequestRefused
from testbed.plugin.publications import Publications
from testbed.plugin.rate_limit import RateLimit
from testbed.plugin.server_clock import monotonic_s, now_ms
from testbed.plugin.uploads import Uploads
from testbed.plugin.world import User

PLUGIN = "/plugins/com.mattermost.calls"
VERSION = {"version": "1.12.2", "build": "standin"}


class PluginRoutes:
    """Answers as the plugin does; `router` goes into the application."""

    def __init__(
        self,
        calls: Calls,
        jobs: JobLifecycle,
        uploads: Uploads,
        *,
        config: ClientConfig,
        sfu_version: Callable[[], dict[str, str]],
    ) -> None:
        """`sfu_version()` is what an SFU told at `/version`; it is published anew (rtcd.md 4.4)."""
        self._calls = calls
        self._config = config
        self._sfu_version = sfu_version
        self._jobs = jobs
        self._uploads = uploads
        self._host_actions = HostActions(calls)
        self._limits: dict[str, RateLimit] = {}
        self.router = APIRouter()
        self._add_bot_routes()
        self._add_user_routes()

    def _add_bot_routes(self) -> None:
        bot = f"{PLUGIN}/bot"
        publications = Publications(self._calls)
        self._bot("GET", f"{bot}/channels/{{channel_id}}", self._channel)
        self._bot("GET", f"{bot}/users/{{user_id}}/image", self._image)
        self._bot(
            "GET", f"{bot}/calls/{{channel_id}}/sessions/{{session_id}}/profile", self._profile
        )
        self._bot("GET", f"{bot}/calls/{{channel_id}}/filename", self._filename)
        self._bot("POST", f"{bot}/uploads", self._create_upload)
        self._bot("GET", f"{bot}/uploads/{{upload_id}}", self._get_upload)
        self._bot("POST", f"{bot}/uploads/{{upload_id}}", self._upload_data)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/recordings", publications.recordings)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/transcriptions", publications.transcriptions)
        self._bot("POST", f"{bot}/calls/{{channel_id}}/jobs/{{job_id}}/status", self._status)

    def _add_user_routes(self) -> None:
        call = f"{PLUGIN}/calls/{{channel_id}}"
        self._user("GET", f"{PLUGIN}/config", self._client_config)
        self._user("GET", f"{PLUGIN}/turn-credentials", self._turn_credentials)
        self._user("GET", "/api/v4/config/client", self._server_config, limited=False)
        self._user("GET", f"{call}/active", self._active)
        self._user("POST", f"{call}/recording/{{action}}", self._recording)
        self._user("POST", f"{call}/host/{{action}}", self._host)
        self._user("POST", f"{call}/end", self._end)
        self._user("GET", "/api/v4/files/{file_id}/info", self._file_info, limited=False)
        self._user("POST", "/api/v4/users/ids", self._users_by_ids, limited=False)
        self._user("GET", "/api/v4/users/{user_id}/image", self._image, limited=False)

        @self.router.get("/api/v4/system/ping")
        async def ping() -> dict[str, str]:
            return {"status": "OK"}

        @self.router.get(f"{PLUGIN}/version")
        async def version() -> dict[str, str]:
            sfu = self._sfu_version()
            more = {"rtcd_version": "buildVersion", "rtcd_build": "buildHash"}
            return VERSION | {ours: sfu[theirs] for ours, theirs in more.items() if theirs in sfu}

    # who may

    def _bot(self, method: str, path: str, handler: Handler) -> None:
        async def guarded(request: Request) -> Response:
            user = self._authenticate(request)
            if user is None:
                return PlainTextResponse("Unauthorized\n", status_code=401)
            if user is not self._calls.world.bot:
                return PlainTextResponse("Forbidden\n", status_code=403)
            if status := self._calls.faults.refuse_bot_status:
                return PlainTextResponse("bad gateway\n", status_code=status)
            return await answer(handler, user, request)

        self.router.add_api_route(path, guarded, methods=[method])

    def _user(self, method: str, path: str, handler: Handler, *, limited: bool = True) -> None:
        async def guarded(request: Request) -> Response:
            user = self._authenticate(request)
            if user is None:
                return PlainTextResponse("Unauthorized\n", status_code=401)
            limit = self._limits.setdefault(user.user_id, RateLimit(rate_per_s=1, burst=10))
            if limited and not limit.allow(monotonic_s()):
                text = json.dumps({"message": "too many requests", "status_code": 429})
                return PlainTextResponse(text, status_code=429)
            return await answer(handler, user, request)

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
            return to_json(None)  # 200 and null (trap 52)
        channel = {"id": world.channel_id, "team_id": world.team_id, "type": "O"}
        return to_json(channel | {"display_name": world.channel_name, "name": "town-square"})

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
        return to_json(session.user.profile())

    async def _filename(self, user: User, request: Request) -> Response:
        name = self._calls.world.channel_name.replace(" ", "_")
        stamp = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
        return to_json({"filename": f"Call_{name}_{stamp}"})

    async def _create_upload(self, user: User, request: Request) -> Response:
        body = await read_object(request)
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
        return to_json(upload.public())  # 200, not 201 (trap 34)

    async def _get_upload(self, user: User, request: Request) -> Response:
        return to_json(self._uploads.get(request.path_params["upload_id"]).public())

    async def _upload_data(self, user: User, request: Request) -> Response:
        faults = self._calls.faults
        if faults.take("refuse_upload_parts"):
            raise RequestRefused(500, "storage is not available")
        refused = await upload_faults.refuse_part(faults, self._uploads, request)
        if refused is not None:
            return refused
        cut = faults.cut_upload_parts > 0
        stored = await self._uploads.receive(
            user,
            request.path_params["upload_id"],
            upload_faults.body(faults, request),
            damage=faults.take("damage_upload_parts"),
        )
        if cut or faults.take("lose_upload_answers"):
            return upload_faults.cut()
        if stored is None:
            return Response(status_code=204)
        return to_json({"id": stored.file_id, "name": stored.name, "size": stored.size_bytes})

    async def _status(self, user: User, request: Request) -> Response:
        body = await read_object(request)
        self._jobs.report(
            self._call(request),
            request.path_params["job_id"],
            job_type=str(body.get("JobType") or ""),
            status=str(body.get("Status") or ""),
            error=str(body.get("omitempty") or ""),  # `Error` is lost (trap 31)
        )
        return success()

    # everybody's

    async def _client_config(self, user: User, request: Request) -> Response:
        return to_json(self._config.public())

    async def _server_config(self, user: User, request: Request) -> Response:
        """Of Mattermost's own configuration what clients are told; all values are texts."""
        return to_json({"MaxFileSize": str(self._uploads.max_file_size_bytes)})

    async def _turn_credentials(self, user: User, request: Request) -> Response:
        servers = self._config.turn_credentials(user.username, now_s=now_ms() / 1000)
        if servers is None:
            raise RequestRefused(403, "TURN is not configured")
        return to_json(servers)

    async def _active(self, user: User, request: Request) -> Response:
        return to_json({"active": self._call(request) is not None})

    async def _recording(self, user: User, request: Request) -> Response:
        match request.path_params["action"]:
            case "start":
                job = await self._jobs.start(self._call(request), user.user_id)
            case "stop":
                job = await self._jobs.stop(self._call(request), user.user_id)
            case _:
                raise RequestRefused(400, "invalid action")
        return to_json(job.state())

    async def _host(self, user: User, request: Request) -> Response:
        action = request.path_params["action"]
        body = {} if action in ("end", "mute-others") else await read_object(request)
        self._host_actions.perform(self._call(request), user.user_id, action, body)
        return success()

    async def _end(self, user: User, request: Request) -> Response:
        call = self._call(request)
        if call is None:
            raise RequestRefused(400, "no call ongoing")
        if user.user_id != call.host_id:
            raise RequestRefused(400, "no permissions to end the call")
        self._calls.end_for_all()
        return success()

    async def _file_info(self, user: User, request: Request) -> Response:
        """For whoever may read the channel, and for the uploader; here that is everybody."""
        if status := self._calls.faults.refuse_bot_status:
            return PlainTextResponse("bad gateway\n", status_code=status)
        archive, file_id = self._calls.archive, request.path_params["file_id"]
        stored = archive.files.get(file_id)
        if stored is None:
            raise RequestRefused(404, "not found")
        post_id = next((p.post_id for p in archive.posts.values() if file_id in p.file_ids), "")
        info = {"id": file_id, "name": stored.name, "size": stored.size_bytes}
        return to_json(info | ({"post_id": post_id} if post_id else {}))

    async def _users_by_ids(self, user: User, request: Request) -> Response:
        try:
            ids = json.loads(await request.body())
        except ValueError:
            raise RequestRefused(400, "invalid body") from None
        found = [self._calls.world.by_id(str(i)) for i in ids] if isinstance(ids, list) else []
        return to_json([u.profile() for u in found if u is not None])
