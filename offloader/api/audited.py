"""Which requests leave a record in the audit, and what it says of them.

What is looked at is method and path, so that the admin's page, the local socket and the network leave the
same records. A record is made when the answer begins: of a download that is under way, too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clientauth.caller import Caller, caller
from clientauth.turns import PEER
from offloader.audit import JOB_SHOWN, LOGIN_FAILED, Audit, collecting
from offloader.models import JOB_ID

_PAGE_API: Final = "/page/api"
_JOB: Final = r"/jobs/(?P<job>[^/]+)"
_ACTIONS: Final = tuple(
    (method, re.compile(path, re.DOTALL), action)
    for method, path, action in (
        ("POST", r"/register", "client.register"),
        ("POST", r"/unregister", "client.unregister"),
        ("POST", r"/login", "client.login"),
        ("POST", r"/page/login", "page.login"),
        ("POST", r"/page/logout", "page.logout"),
        ("POST", r"/jobs", "job.start"),
        ("DELETE", _JOB, "job.delete"),
        ("GET", _JOB, JOB_SHOWN),
        ("GET", rf"{_JOB}/logs", "job.read_log"),
        ("GET", rf"{_JOB}/artifacts/(?P<file>.+)", "job.open_file"),
        ("POST", rf"{_JOB}/stop", "job.stop"),
        ("POST", rf"{_JOB}/republish", "job.republish"),
        ("POST", rf"{_JOB}/retranscribe", "job.retranscribe"),
        ("POST", r"/admin/drain", "service.drain"),
        ("POST", r"/admin/undrain", "service.undrain"),
        ("POST", r"/admin/clients/add", "client.add"),
        ("POST", r"/admin/clients/rotate", "client.rotate"),
        ("POST", r"/admin/clients/revoke", "client.revoke"),
        ("POST", r"/admin/clients/adopt", "client.adopt"),
        ("POST", r"/admin/data/find", "data.find"),
        ("POST", r"/admin/data/delete", "data.delete"),
        ("POST", r"/admin/data/hold", "data.hold"),
        ("POST", r"/admin/data/release", "data.release"),
        ("POST", r"/admin/keys/renew", "keys.renew"),
    )
)
_LOGINS: Final = frozenset({"client.login", "page.login"})


class Audited:
    """ASGI middleware; inside of `AccessLog`, which knows the sender and the request's ID."""

    def __init__(self, app: ASGIApp, *, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who, told = caller(), False
        method, path, query = scope["method"], scope["path"], scope.get("query_string", b"")
        with collecting() as fields:

            def tell(status: int) -> None:
                nonlocal told
                if not told:
                    told = True
                    self._tell(who, method, path, query, status, fields)

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    tell(message["status"])
                await send(message)

            try:
                await self._app(scope, receive, sending)
            except Exception:
                tell(500)
                raise

    def _tell(
        self,
        who: Caller,
        method: str,
        path: str,
        query: bytes,
        status: int,
        fields: dict[str, str],
    ) -> None:
        of_page = path.startswith("/page/")
        door = "page" if of_page else "network" if PEER.get() else "socket"
        inner = path.removeprefix(_PAGE_API) if path.startswith(f"{_PAGE_API}/") else path
        action, found = action_of(method, inner)
        if action == JOB_SHOWN and not _with_log_lines(query):
            action, found = "", {}
        result = "done" if status < 400 else "failed" if status >= 500 else "refused"
        known = bool(who.client_id or who.admin)
        if who.registered and action != "client.register":
            self._audit.note("client.register", who=who, result="done", door=door)
            who.subject = ""
        # The page goes on asking when its session has ended; nobody tries a key by that.
        wrong_key = status in (401, 429) or (action in _LOGINS and 400 <= status < 500)
        if wrong_key and not known and not (of_page and action not in _LOGINS):
            for_action = {"wanted": action} if action else {}
            self._audit.note(
                LOGIN_FAILED, who=who, result="refused", door=door, status=status, **for_action
            )
        elif status == 403 and not action:
            self._audit.note("access", who=who, result=result, door=door, status=status)
        elif action and (known or who.subject or action != "page.logout"):
            self._audit.note(
                action, who=who, result=result, door=door, status=status, **(found | fields)
            )


def action_of(method: str, path: str) -> tuple[str, dict[str, str]]:
    """What the request is for, and the ids in its path; empty: nothing that is recorded."""
    for wanted, pattern, action in _ACTIONS:
        if method == wanted and (match := pattern.fullmatch(path)):
            return action, dict(_ids(match.groupdict()))
    return "", {}


def _ids(found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Names of files may name people: their kind is told, and a hash to compare with."""
    if JOB_ID.fullmatch(found.get("job", "")):
        yield "job", found["job"]
    if name := found.get("file"):
        suffix = PurePosixPath(name).suffix
        if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix):
            yield "kind", suffix[1:]
        yield "name_sha256", hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _with_log_lines(query: bytes) -> bool:
    return b"details" in query and parse_qs(query.decode("latin-1")).get("details") in (
        ["1"],
        ["true"],
    )
