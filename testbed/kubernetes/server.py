"""The double of an API server: real HTTP for Jobs, Pods, their logs and Secrets of one namespace.

async with running_cluster(directory) as cluster: ... cluster.url
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from testbed.kubernetes.job_controller import JobController
from testbed.kubernetes.kubelet import Kubelet
from testbed.kubernetes.objects import KINDS, Objects, Refused, Thing, matches
from testbed.kubernetes.validation import check, check_update

NAMESPACE: Final = "calls"
_BOOKMARK_S: Final = 60.0
Handler = Callable[[web.Request], Any]


@dataclass
class Fault:
    """What the next requests meet that fit."""

    method: str
    part: str
    """Of the path with its query."""
    times: int
    status: int = 0
    """Answered instead; 0: see the others."""
    retry_after_s: int | None = None
    delay_s: float = 0.0
    held: asyncio.Event | None = None
    """Until this is set it is not answered."""
    lost: bool = False
    """It is done, but the answer does not arrive."""


class Cluster:
    """The server and everything behind it."""

    def __init__(self, directory: Path, *, restricted: bool, second_s: float) -> None:
        self.objects = Objects()
        self.kubelet = Kubelet(self.objects, root=directory, second_s=second_s)
        JobController(self.objects, self.kubelet, restricted=restricted)
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        """By method and kind; watches as WATCH."""
        self.rights: set[tuple[str, str]] = set()
        """Verb and resource, as a Role names them, of every request so far."""
        self.url = ""
        self._watches: dict[int, web.Request] = {}
        self._port = 0
        self._runner: web.AppRunner | None = None

    def fail(self, method: str, part: str, status: int = 0, *, times: int = 1, **how: Any) -> None:
        """Let the next `times` requests whose path holds `part` fail."""
        self.faults.append(Fault(method, part, times, status, **how))

    def drop_watches(self) -> None:
        """Cut every open watch and log in the middle."""
        for request in list(self._watches.values()):
            if request.transport is not None:
                request.transport.abort()

    async def start(self) -> None:
        app = web.Application(middlewares=[self._middleware], client_max_size=4 << 20)
        base = f"/api/v1/namespaces/{NAMESPACE}"
        batch = f"/apis/batch/v1/namespaces/{NAMESPACE}"
        for prefix, plural in ((batch, "jobs"), (base, "pods"), (base, "secrets")):
            app.router.add_get(f"{prefix}/{{plural:{plural}}}", self._list)
            app.router.add_post(f"{prefix}/{{plural:{plural}}}", self._create)
            one = f"{prefix}/{{plural:{plural}}}/{{name}}"
            app.router.add_get(one, self._get)
            app.router.add_patch(one, self._patch)
            app.router.add_delete(one, self._delete)
        app.router.add_get(f"{base}/pods/{{name}}/log", self._log)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """The API server alone; jobs run on."""
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def aclose(self) -> None:
        await self.stop()
        await self.kubelet.aclose()

    def kubeconfig(self, path: Path) -> Path:
        """Write one that leads here."""
        named = {"name": "double"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{**named, "cluster": {"server": self.url}}],
            "users": [{**named, "user": {"token": "a-token"}}],
            "contexts": [
                {
                    **named,
                    "context": {"cluster": "double", "user": "double", "namespace": NAMESPACE},
                }
            ],
            "current-context": "double",
        }
        path.write_text(json.dumps(config))
        return path

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        plural = request.match_info.get("plural", "log")
        watching = request.query.get("watch") == "true"
        self.requests[f"{'WATCH' if watching else request.method} {plural}"] += 1
        self.rights.add(_right(request, watching=watching))
        fault = self._fault(request)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.held is not None:
                await fault.held.wait()
            if fault.status:
                headers = {}
                if fault.retry_after_s is not None:
                    headers["Retry-After"] = str(fault.retry_after_s)
                refusal = Refused(fault.status, "Injected", "injected by the test")
                return _status(refusal, headers)
        try:
            response: web.StreamResponse = await handler(request)
        except Refused as refusal:
            return _status(refusal)
        if fault is not None and fault.lost and request.transport is not None:
            request.transport.abort()
        return response

    def _fault(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            fits = fault.method in (request.method, "*") and fault.part in request.path_qs
            if fits and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural, selector = request.match_info["plural"], request.query.get("labelSelector", "")
        if request.query.get("watch") == "true":
            return await self._watch(request, plural, selector)
        items = [thing for thing in self.objects.all(plural) if matches(thing, selector)]
        version = str(self.objects.version)
        return web.json_response(
            {
                "kind": f"{KINDS[plural]}List",
                "metadata": {"resourceVersion": version},
                "items": items,
            }
        )

    async def _watch(self, request: web.Request, plural: str, selector: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        version = int(request.query["resourceVersion"])
        give_up_s = asyncio.get_running_loop().time() + float(request.query["timeoutSeconds"])
        self._watches[id(request)] = request
        try:
            while asyncio.get_running_loop().time() < give_up_s:
                try:
                    async with asyncio.timeout(_BOOKMARK_S):
                        events = await self.objects.changes_after(version, plural)
                except TimeoutError:
                    mark = {"kind": KINDS[plural], "metadata": {"resourceVersion": str(version)}}
                    await _write(response, {"type": "BOOKMARK", "object": mark})
                    continue
                except Refused as refusal:
                    await _write(response, {"type": "ERROR", "object": _status_object(refusal)})
                    break
                for event in events:
                    version = event.version
                    if matches(event.thing, selector):
                        await _write(response, {"type": event.kind, "object": event.thing})
        except ConnectionError:
            pass  # whoever watched is gone
        finally:
            self._watches.pop(id(request), None)
        return response

    async def _create(self, request: web.Request) -> web.Response:
        plural, thing = request.match_info["plural"], await request.json()
        check(plural, thing)
        return web.json_response(self.objects.create(plural, thing), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._named(request))

    async def _patch(self, request: web.Request) -> web.Response:
        if request.content_type != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", request.content_type)
        plural, thing = request.match_info["plural"], self._named(request)
        changed = _merged(copy.deepcopy(thing), await request.json())
        check_update(plural, thing, changed)
        thing.clear()
        thing.update(changed)
        return web.json_response(self.objects.touch(plural, thing))

    async def _delete(self, request: web.Request) -> web.Response:
        plural, thing = request.match_info["plural"], self._named(request)
        options = await request.json() if request.can_read_body else {}
        check("options", options)
        uid = (options.get("preconditions") or {}).get("uid")
        if uid not in (None, thing["metadata"]["uid"]):
            raise Refused(409, "Conflict", "the UID in the precondition does not match")
        if plural == "pods":
            default = thing["spec"].get("terminationGracePeriodSeconds", 30)
            self.kubelet.delete(thing, options.get("gracePeriodSeconds", default))
            return web.json_response(thing)
        self.objects.remove(plural, thing)
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod = self.objects.get("pods", request.match_info["name"])
        log = self.kubelet.logs.get(pod["metadata"]["uid"])
        if log is None:
            text = f'container "job" in pod "{pod["metadata"]["name"]}" is waiting to start'
            raise Refused(400, "BadRequest", text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        self._watches[id(request)] = request
        try:
            async for chunk in log.read(
                follow=request.query.get("follow") == "true",
                timestamps=request.query.get("timestamps") == "true",
                since=request.query.get("sinceTime", ""),
            ):
                await response.write(chunk)
        except ConnectionError:
            pass  # whoever read is gone
        finally:
            self._watches.pop(id(request), None)
        return response

    def _named(self, request: web.Request) -> Thing:
        return self.objects.get(request.match_info["plural"], request.match_info["name"])


@asynccontextmanager
async def running_cluster(
    directory: Path, *, restricted: bool = True, second_s: float = 1.0
) -> AsyncIterator[Cluster]:
    """A cluster on a free port of this host; its pods' processes end with it."""
    cluster = Cluster(directory, restricted=restricted, second_s=second_s)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.aclose()


def _right(request: web.Request, *, watching: bool) -> tuple[str, str]:
    plural = request.match_info.get("plural", "pods/log")
    verbs = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
    reading = "get" if "name" in request.match_info else "watch" if watching else "list"
    return verbs.get(request.method, reading), plural


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


async def _write(response: web.StreamResponse, event: Any) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def _status_object(refusal: Refused) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": str(refusal),
        "reason": refusal.reason,
        "code": refusal.status,
    }


def _status(refusal: Refused, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status_object(refusal), status=refusal.status, headers=headers)
