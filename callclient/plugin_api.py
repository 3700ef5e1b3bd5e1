"""Every HTTP route of the Calls plugin and of Mattermost that a job or a bot uses (calls-plugin.md 5)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from callclient.bounded_answer import AnswerTooLarge, read_answer, reason_of, retry_after_s
from callclient.site_guard import SiteRefused, check_peer, check_site

PLUGIN_PATH = "/plugins/com.mattermost.calls"
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_DATA_TIMEOUT = httpx.Timeout(10.0, write=60.0, read=300.0)
"""A server that takes nothing for a minute is gone; one that has it all may be busy with its storage."""
_POST_TIMEOUT = httpx.Timeout(10.0, read=120.0)
"""Whoever asks again while a slow server is still at it gets two posts."""
_ANSWER_BYTES = 16 << 20
_PICTURE_BYTES = 4 << 20


class ApiError(Exception):
    """A request failed. The message names method, route and status, never a response body."""

    def __init__(
        self,
        text: str,
        *,
        status: int | None,
        retryable: bool,
        surely_not_arrived: bool = False,
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status, or None when there was no answer."""
        self.retryable = retryable
        """Trying again may help; decided here, where the facts are."""
        self.surely_not_arrived = surely_not_arrived
        """No byte of the request reached the server, so that repeating it cannot do it twice."""
        self.reason = reason
        """The server's own text, for decisions; not for logs."""
        self.retry_after_s = retry_after_s
        """How long the server wants to be left alone (RFC 9110 section 10.2.3)."""


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A Mattermost user; any name may be empty (trap 52)."""

    user_id: str
    username: str
    first_name: str
    last_name: str


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A resumable upload (calls-plugin.md 5.3)."""

    id: str
    file_size_bytes: int
    file_offset_bytes: int
    """How much the server has; continue from there."""


class PluginApi:
    """A client for one site and one token. Use as an async context manager, or `aclose`.

    Every method raises ApiError. Cancelling a request closes its connection.
    """

    def __init__(
        self,
        *,
        site_url: str,
        auth_token: str,
        ca_file: Path | None = None,
        site_is_allowed: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """`site_is_allowed`: the admin has named it, so that it may have any address.

        Raises:
            OSError: `ca_file` cannot be read.
        """
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
        self._http = httpx.AsyncClient(
            base_url=site_url,
            headers={"Authorization": f"Bearer {auth_token}"},
            timeout=timeout_s,
            verify=context,
            follow_redirects=False,  # the token goes only where it came from
            event_hooks={} if site_is_allowed else {"request": [_check_site]},
        )

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # names and pictures

    async def filename(self, channel_id: str) -> str:
        """The name for this call's files, without an ending."""
        value = await self._json("GET", f"{PLUGIN_PATH}/bot/calls/{channel_id}/filename")
        name = value.get("filename") if isinstance(value, dict) else None
        if not isinstance(name, str) or not name:
            raise ApiError("GET filename: the answer has no filename", status=200, retryable=False)
        return name

    async def profile(self, channel_id: str, session_id: str) -> UserProfile:
        """Who a session of the current call belongs to; 404 once it left (trap 33)."""
        route = f"{PLUGIN_PATH}/bot/calls/{channel_id}/sessions/{session_id}/profile"
        return _profile(await self._json("GET", route))

    async def users_by_ids(self, user_ids: list[str]) -> list[UserProfile]:
        """Profiles by user id; unknown ids are left out."""
        value = await self._json("POST", "/api/v4/users/ids", body=user_ids)
        return [_profile(entry) for entry in value] if isinstance(value, list) else []

    async def user_image(self, user_id: str) -> bytes:
        """The picture's bytes, whatever format, at most 4 MiB."""
        route = f"{PLUGIN_PATH}/bot/users/{user_id}/image"
        return (await self._request("GET", route, most_bytes=_PICTURE_BYTES)).content

    # what clients are told

    async def client_config(self) -> dict[str, Any]:
        """`GET config`: ICE servers and switches, by their names on the wire (calls-plugin.md 4.11, 5.7)."""
        value = await self._json("GET", f"{PLUGIN_PATH}/config")
        return value if isinstance(value, dict) else {}

    async def turn_credentials(self) -> Any:
        """TURN servers with short-lived credentials, as `ICEServersConfigs`; 403 without a secret."""
        return await self._json("GET", f"{PLUGIN_PATH}/turn-credentials")

    # uploads

    async def create_upload(
        self, channel_id: str, *, filename: str, file_size_bytes: int
    ) -> UploadSession:
        """A new upload session."""
        body = {"channel_id": channel_id, "filename": filename, "file_size": file_size_bytes}
        return _upload(await self._json("POST", f"{PLUGIN_PATH}/bot/uploads", body=body))

    async def get_upload(self, upload_id: str) -> UploadSession:
        """The session's state; 404 once it is complete."""
        return _upload(await self._json("GET", f"{PLUGIN_PATH}/bot/uploads/{upload_id}"))

    async def send_upload_data(
        self, upload_id: str, data: bytes | AsyncIterator[bytes], *, length_bytes: int
    ) -> str | None:
        """Send the next bytes. The file's id when the upload is complete, None when more is wanted (204)."""
        response = await self._request(
            "POST",
            f"{PLUGIN_PATH}/bot/uploads/{upload_id}",
            content=data,
            headers={"Content-Length": str(length_bytes)},
            timeout=_DATA_TIMEOUT,
        )
        if response.status_code == 204:
            return None
        value = _decode(response)
        file_id = value.get("id") if isinstance(value, dict) else None
        if not isinstance(file_id, str) or not file_id:
            raise ApiError("POST upload: the answer has no file id", status=200, retryable=False)
        return file_id

    async def post_of_file(self, file_id: str) -> str:
        """The id of the post that an uploaded file is attached to; empty when there is none yet.

        `GET /api/v4/files/{file_id}/info` is for everybody who may read the channel, and for the uploader
        (https://docs.mattermost.com/api/reference/get-file-info).
        """
        value = await self._json("GET", f"/api/v4/files/{file_id}/info")
        if not isinstance(value, dict):
            raise ApiError("GET file info: the answer is no file info", status=200, retryable=False)
        return str(value.get("post_id") or "")

    # publication and status

    async def publish_recording(
        self, channel_id: str, *, job_id: str, post_id: str, file_ids: list[str]
    ) -> None:
        """Post the recording into the call's thread. Not idempotent (trap 36)."""
        body = {"JobID": job_id, "PostID": post_id, "FileIDs": file_ids}
        route = f"{PLUGIN_PATH}/bot/calls/{channel_id}/recordings"
        await self._request("POST", route, json=body, timeout=_POST_TIMEOUT)

    async def publish_transcription(
        self,
        channel_id: str,
        *,
        job_id: str,
        post_id: str,
        language: str,
        file_ids: list[str],
        title: str = "",
    ) -> None:
        """Post the transcript; `file_ids` is VTT first, text second (trap 37). Not idempotent."""
        transcription = {"Title": title, "Language": language, "FileIDs": file_ids}
        body = {"JobID": job_id, "PostID": post_id, "Transcriptions": [transcription]}
        route = f"{PLUGIN_PATH}/bot/calls/{channel_id}/transcriptions"
        await self._request("POST", route, json=body, timeout=_POST_TIMEOUT)

    async def report_status(
        self, channel_id: str, job_id: str, *, job_type: str, status: str, error: str = ""
    ) -> None:
        """`job_type` recording or transcribing, `status` started or failed."""
        body = {"JobType": job_type, "Status": status}
        if error:
            body["omitempty"] = error  # the plugin's struct tag slip: `Error` is lost (trap 31)
        route = f"{PLUGIN_PATH}/bot/calls/{channel_id}/jobs/{job_id}/status"
        await self._request("POST", route, json=body)

    # what the host does

    async def start_recording(self, channel_id: str) -> None:
        """Press record (host only)."""
        await self._request("POST", f"{PLUGIN_PATH}/calls/{channel_id}/recording/start")

    async def stop_recording(self, channel_id: str) -> None:
        """Press stop (host only)."""
        await self._request("POST", f"{PLUGIN_PATH}/calls/{channel_id}/recording/stop")

    async def _json(self, method: str, route: str, *, body: Any = None) -> Any:
        return _decode(await self._request(method, route, json=body))

    async def _request(
        self,
        method: str,
        route: str,
        *,
        json: Any = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
        most_bytes: int = _ANSWER_BYTES,
    ) -> httpx.Response:
        what = f"{method} {route}"
        try:
            async with self._http.stream(
                method,
                route,
                json=json,
                content=content,
                headers=headers,
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            ) as response:
                response = await read_answer(response, most_bytes=most_bytes)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            TimeoutError,
        ) as error:
            raise ApiError(
                f"{what}: no connection ({type(error).__name__})",
                status=None,
                retryable=True,
                surely_not_arrived=True,
            ) from error
        except AnswerTooLarge as error:
            raise ApiError(f"{what}: {error}", status=error.status, retryable=False) from error
        except SiteRefused as error:
            raise ApiError(f"{what}: {error}", status=None, retryable=False) from error
        except httpx.HTTPError as error:
            raise ApiError(
                f"{what}: no answer ({type(error).__name__})", status=None, retryable=True
            ) from error
        if response.status_code >= 300:
            raise ApiError(
                f"{what}: refused with HTTP {response.status_code}",
                status=response.status_code,
                retryable=response.status_code in _RETRYABLE_STATUS,
                reason=reason_of(response),
                retry_after_s=retry_after_s(response),
            )
        return response


async def _check_site(request: httpx.Request) -> None:
    url = str(request.url)
    await check_site(url)

    async def arrived(event: str, told: Mapping[str, Any]) -> None:
        if event != "connection.connect_tcp.complete":
            return
        stream = told["return_value"]
        try:
            check_peer(url, stream.get_extra_info("server_addr"))
        except SiteRefused:
            await stream.aclose()
            raise

    # https://www.encode.io/httpcore/extensions/#trace: called before TLS, and before anything is sent
    request.extensions["trace"] = arrived


def _decode(response: httpx.Response) -> Any:
    """JSON whatever the content type says (trap 52)."""
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise ApiError(
            f"{response.request.method} {response.request.url.path}: the answer is not JSON",
            status=response.status_code,
            retryable=False,
        ) from error


def _profile(value: Any) -> UserProfile:
    entry = value if isinstance(value, dict) else {}
    return UserProfile(
        user_id=str(entry.get("id") or ""),
        username=str(entry.get("username") or ""),
        first_name=str(entry.get("first_name") or ""),
        last_name=str(entry.get("last_name") or ""),
    )


def _upload(value: Any) -> UploadSession:
    entry = value if isinstance(value, dict) else {}
    upload_id, size, offset = entry.get("id"), entry.get("file_size"), entry.get("file_offset")
    if not (upload_id and isinstance(upload_id, str)):
        raise ApiError("upload: the answer has no id", status=200, retryable=False)
    if not (isinstance(size, int) and isinstance(offset, int)):
        raise ApiError("upload: the answer has no size or offset", status=200, retryable=False)
    return UploadSession(upload_id, size, offset)
