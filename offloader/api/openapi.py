"""`GET /openapi.json`: every route, written by hand because the wire is older than any generator.

A test holds it to the routes, and Schemathesis the routes to it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from offloader.api.errors import NO_SUCH_JOB
from offloader.api.openapi_schemas import (
    DETAILS_EXAMPLE,
    EXAMPLE_ID,
    JOB_CONFIG_EXAMPLE,
    JOB_EXAMPLE,
    SCHEMAS,
)
from offloader.api.queries import LARGEST_PAGE
from offloader.models import JobState, JobType
from offloader.version import BUILD_VERSION, version_document

Document = dict[str, Any]

_UNREADABLE: Final = "failed to decode request body: EOF"
_EXAMPLE_ERRORS: Final[dict[int, tuple[str, str]]] = {
    400: ("The request cannot be.", _UNREADABLE),
    401: ("Who asks is not known.", "authentication failed: invalid auth header"),
    403: ("Not allowed.", "unregister not enabled"),
    404: ("No such job, or another client's; no such route or method.", NO_SUCH_JOB),
    409: (
        "Not in its present state.",
        f"job {EXAMPLE_ID} has no result that waits for publication",
    ),
    413: ("The body has more than 1 MiB.", "request body too large: more than 1048576 bytes"),
    422: (
        "The Idempotency-Key was used for another job.",
        "this Idempotency-Key was used for a different job: use a new key",
    ),
    429: (
        "Too many logins from this address at once.",
        "too many logins from this address at once: try again in a few seconds",
    ),
    500: (
        "The job was not created, or the backend or the database failed.",
        "failed to create recording job: max concurrent jobs reached",
    ),
    503: ("Not now.", "nobody more can listen to events now: try again later, or poll GET /jobs"),
}
_NO_BODY: Final[Document] = {"description": "Done; the body is empty."}
_BASIC_OR_BEARER: Final[list[Document]] = [{"basic": []}, {"bearer": []}]


@cache
def openapi_document() -> Document:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Job service for Mattermost Calls",
            "version": BUILD_VERSION,
            "description": "Records, transcribes and captions calls. Errors are "
            '`{"error": "…", "code": "<status as a string>"}`; bodies have at most 1 MiB.',
        },
        "paths": _monitoring() | _clients() | _jobs() | _added_jobs(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _monitoring() -> Document:
    ready = _json("Jobs are taken.", "Status", {"status": "ready"})
    reasons = ["the service is draining"]
    draining = {"error": "not ready: the service is draining", "code": "503", "reasons": reasons}
    capacity = {
        "limit": 2,
        "calls_in_progress": 1,
        "free": 1,
        "jobs": 2,
        "draining": False,
        "free_disk_bytes": 52428800000,
        "min_free_disk_bytes": 5368709120,
    }
    return {
        "/version": {
            "get": _operation(
                "Which release answers",
                {200: _json("The release.", "Version", version_document())},
                open_to_all=True,
            )
        },
        "/healthz": {
            "get": _operation(
                "Whether the process answers",
                {200: _json("It does.", "Status", {"status": "ok"})},
                open_to_all=True,
            )
        },
        "/readyz": {
            "get": _operation(
                "Whether jobs are taken",
                {200: ready, 503: _json("They are not; why.", "NotReady", draining)},
                open_to_all=True,
            )
        },
        "/metrics": {
            "get": _operation(
                "Metrics for Prometheus",
                {200: _plain("Text format 0.0.4.", "calls_offloader_calls_in_progress 1.0\n")},
                errors=(500,),
                open_to_all=True,
            )
        },
        "/capacity": {
            "get": _operation(
                "Room for calls now",
                {200: _json("Places for calls.", "Capacity", capacity)},
                errors=(401, 429, 500),
            )
        },
        "/openapi.json": {
            "get": _operation(
                "This document",
                {200: {"description": "OpenAPI 3.1.", "content": {"application/json": {}}}},
                open_to_all=True,
            )
        },
        "/events": {
            "get": _operation(
                "What becomes of jobs, as server-sent events",
                {200: _event_stream()},
                errors=(401, 429, 500, 503),
            )
        },
    }


def _clients() -> Document:
    key = {"clientID": "plugin", "authKey": "u1dYfYs8nK3cY0tqB7lWm2ZrXhEoGvJp"}
    return {
        "/register": {
            "post": _operation(
                "Register a client",
                {201: _json("Known now.", "Registered", {"clientID": "plugin", "code": "201"})},
                body=_body("Client", key),
                errors=(400, 401, 413, 429, 500),
                open_to_all=True,
            )
        },
        "/unregister": {
            "post": _operation(
                "Forget a client and end its session",
                {200: _json("Forgotten.", "Unregistered", {"code": "200"})},
                body=_body("ClientID", {"clientID": "plugin"}),
                errors=(400, 401, 403, 413, 429, 500),
            )
        },
        "/login": {
            "post": _operation(
                "Get the client's one bearer token",
                {
                    200: _json(
                        "The token; an earlier one ends.",
                        "LoggedIn",
                        {"bearerToken": "mWJzVb1yVtPo2Gq5", "code": "200"},
                    )
                },
                body=_body("Client", key),
                errors=(400, 413, 429, 500),
                open_to_all=True,
            )
        },
    }


def _jobs() -> Document:
    runners = {"Runners": [JOB_CONFIG_EXAMPLE["runner"], "mattermost/calls-transcriber:v0.7.2"]}
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": "A repeat of the same request within 24 h gets the first answer.",
    }
    details = _query("details", {"type": "string", "enum": ["1", "true", "0", "false"]})
    follow = _query("follow", {"type": "string", "enum": ["1", "true", "0", "false"]})
    return {
        "/jobs/init": {
            "post": _operation(
                "Check runners and make their images present",
                {200: _NO_BODY},
                body=_body("Runners", runners),
                errors=(400, 401, 413, 429, 500),
            )
        },
        "/jobs": {
            "post": _operation(
                "Start a job",
                {200: _json("It is on its way.", "Job", JOB_EXAMPLE)},
                body=_body("JobConfig", JOB_CONFIG_EXAMPLE),
                parameters=[key],
                errors=(400, 401, 413, 422, 429, 500),
            ),
            "get": _operation(
                "List jobs, newest first",
                {200: _json("A page.", "JobPage", {"jobs": [DETAILS_EXAMPLE], "next": None})},
                parameters=[
                    _query("type", {"type": "string", "enum": list(JobType)}),
                    _query("state", {"type": "string", "enum": list(JobState)}),
                    _query("since", {"type": "string", "format": "date-time"}),
                    _query("before", {"type": "string"}),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}),
                ],
                errors=(400, 401, 429, 500),
            ),
        },
        "/jobs/{job_id}": {
            "parameters": [_JOB_ID],
            "get": _operation(
                "One job",
                {
                    200: _json("The job, with `details=1` more of it.", "Job", JOB_EXAMPLE),
                },
                parameters=[details],
                errors=(400, 401, 404, 429, 500),
            ),
            "delete": _operation(
                "Delete a finished job's record, log and files",
                {200: _NO_BODY},
                errors=(400, 401, 404, 429, 500),
            ),
        },
        "/jobs/{job_id}/logs": {
            "parameters": [_JOB_ID],
            "get": _operation(
                "The job's log; with `follow=1` until the job ends",
                {200: _plain("Standard output and error.", '{"event":"started"}\n')},
                parameters=[follow],
                errors=(400, 401, 403, 404, 429, 500),
            ),
        },
    }


def _added_jobs() -> Document:
    stopping = {
        name: value
        for name, value in DETAILS_EXAMPLE.items()
        if name != "stop_at"  # it has not ended yet
    } | {"state": "stopping", "stop_reason": "requested", "exit_code": None}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    files = {"artifacts": [{"name": "67t5u6cmtfbb7jug739d43xa9e/part.mp4", "size_bytes": 734003}]}
    return {
        "/jobs/{job_id}/stop": {
            "parameters": [_JOB_ID],
            "post": _operation(
                "End a job as if its call were over",
                {
                    202: _json("It is ending.", "JobDetails", stopping),
                    200: _json("It had ended before.", "JobDetails", DETAILS_EXAMPLE),
                },
                errors=(401, 404, 409, 429, 500),
            ),
        },
        "/jobs/{job_id}/artifacts": {
            "parameters": [_JOB_ID],
            "get": _operation(
                "Files that the job left",
                {200: _json("Those not removed yet.", "Artifacts", files)},
                errors=(401, 404, 429, 500),
            ),
        },
        "/jobs/{job_id}/artifacts/{name}": {
            "parameters": [_JOB_ID, name],
            "get": _operation(
                "One of them; its name may hold slashes",
                {
                    200: {
                        "description": "Its content.",
                        "content": {"application/octet-stream": {}},
                    }
                },
                errors=(401, 404, 429, 500),
            ),
        },
        "/jobs/{job_id}/republish": {
            "parameters": [_JOB_ID],
            "post": _operation(
                "Try again to publish what the job could not",
                {202: _json("It will be tried now.", "JobDetails", DETAILS_EXAMPLE)},
                body=_body(
                    "Republish", {"auth_token": "9qmkrp3ksbgzxpi93rpq7ftwuy"}, required=False
                ),
                errors=(400, 401, 404, 409, 413, 429, 500),
            ),
        },
    }


_JOB_ID: Final[Document] = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9-]{12,63}$"},
    "example": EXAMPLE_ID,
}


def _operation(
    summary: str,
    answers: dict[int, Document],
    *,
    body: Document | None = None,
    parameters: list[Document] | None = None,
    errors: tuple[int, ...] = (),
    open_to_all: bool = False,
) -> Document:
    responses = {str(status): answer for status, answer in answers.items()}
    responses |= {str(status): _error(status) for status in errors}
    operation: Document = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = body
    if parameters:
        operation["parameters"] = parameters
    if not open_to_all:
        operation["security"] = _BASIC_OR_BEARER
    return operation


def _error(status: int) -> Document:
    description, text = _EXAMPLE_ERRORS[status]
    return _json(description, "Error", {"error": text, "code": str(status)})


def _json(description: str, schema: str, example: Document) -> Document:
    return {"description": description, "content": _json_content(schema, example)}


def _body(schema: str, example: Document, *, required: bool = True) -> Document:
    return {"required": required, "content": _json_content(schema, example)}


def _json_content(schema: str, example: Document) -> Document:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"application/json": {"schema": reference, "example": example}}


def _plain(description: str, example: str) -> Document:
    content = {"text/plain": {"schema": {"type": "string"}, "example": example}}
    return {"description": description, "content": content}


def _event_stream() -> Document:
    return {
        "description": "`event: job` with the job's details, beginning with live jobs; `event: dropped` "
        "with the count of events that were lost because they were not read in time; comments as "
        "heartbeats; `event: end` when the service ends.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: job\ndata: {"id":"5f0c3ba1d29e","state":"running"}\n\n',
            }
        },
    }


def _query(name: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "schema": schema}
