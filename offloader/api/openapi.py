"""`GET /openapi.json`: every route, written by hand because the wire is older than any generator.

A test holds it to the routes, and Schemathesis the routes to it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from offloader.api.openapi_parts import (
    EXAMPLE_ETAG,
    JOB_ID,
    NO_BODY,
    Document,
    body,
    event_stream,
    file_answer,
    header,
    json_answer,
    operation,
    plain_answer,
    query,
)
from offloader.api.openapi_schemas import (
    DETAILS_EXAMPLE,
    JOB_CONFIG_EXAMPLE,
    JOB_EXAMPLE,
    RETRANSCRIBED_EXAMPLE,
    SCHEMAS,
)
from offloader.api.queries import LARGEST_PAGE
from offloader.models import JobState, JobType
from offloader.version import BUILD_VERSION, version_document

_LATER: Final[Document] = {
    "description": "Some of it cannot be reached now, and is removed later; the body is empty."
}


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
    ready = json_answer("Jobs are taken.", "Status", {"status": "ready"})
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
        "least_disk_bytes": None,
    }
    return {
        "/version": {
            "get": operation(
                "Which release answers",
                {200: json_answer("The release.", "Version", version_document())},
                open_to_all=True,
            )
        },
        "/healthz": {
            "get": operation(
                "Whether the process answers",
                {200: json_answer("It does.", "Status", {"status": "ok"})},
                open_to_all=True,
            )
        },
        "/readyz": {
            "get": operation(
                "Whether jobs are taken",
                {200: ready, 503: json_answer("They are not; why.", "NotReady", draining)},
                open_to_all=True,
            )
        },
        "/metrics": {
            "get": operation(
                "Metrics for Prometheus",
                {
                    200: plain_answer(
                        "Text format 0.0.4.", "calls_offloader_calls_in_progress 1.0\n"
                    )
                },
                errors=(500,),
                open_to_all=True,
            )
        },
        "/capacity": {
            "get": operation(
                "Room for calls now",
                {200: json_answer("Places for calls.", "Capacity", capacity)},
                errors=(401, 429, 500),
            )
        },
        "/openapi.json": {
            "get": operation(
                "This document",
                {200: {"description": "OpenAPI 3.1.", "content": {"application/json": {}}}},
                open_to_all=True,
            )
        },
        "/events": {
            "get": operation(
                "What becomes of jobs, as server-sent events",
                {200: event_stream()},
                errors=(401, 429, 500, 503),
            )
        },
    }


def _clients() -> Document:
    key = {"clientID": "plugin", "authKey": "u1dYfYs8nK3cY0tqB7lWm2ZrXhEoGvJp"}
    return {
        "/register": {
            "post": operation(
                "Register a client",
                {
                    201: json_answer(
                        "Known now.", "Registered", {"clientID": "plugin", "code": "201"}
                    )
                },
                body=body("Client", key),
                errors=(400, 401, 413, 429, 500),
                open_to_all=True,
            )
        },
        "/unregister": {
            "post": operation(
                "Forget a client and end its session",
                {200: json_answer("Forgotten.", "Unregistered", {"code": "200"})},
                body=body("ClientID", {"clientID": "plugin"}),
                errors=(400, 401, 403, 413, 429, 500),
            )
        },
        "/login": {
            "post": operation(
                "Get the client's one bearer token",
                {
                    200: json_answer(
                        "The token; an earlier one ends.",
                        "LoggedIn",
                        {"bearerToken": "mWJzVb1yVtPo2Gq5", "code": "200"},
                    )
                },
                body=body("Client", key),
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
    trace = {
        "name": "traceparent",
        "in": "header",
        "schema": {"type": "string"},
        "description": "W3C Trace Context: the job's trace goes on with it, where the service traces.",
    }
    details = query("details", {"type": "string", "enum": ["1", "true", "0", "false"]})
    follow = query("follow", {"type": "string", "enum": ["1", "true", "0", "false"]})
    return {
        "/jobs/init": {
            "post": operation(
                "Check runners and make their images present",
                {200: NO_BODY},
                body=body("Runners", runners),
                errors=(400, 401, 413, 429, 500),
            )
        },
        "/jobs": {
            "post": operation(
                "Start a job",
                {200: json_answer("It is on its way.", "Job", JOB_EXAMPLE)},
                body=body("JobConfig", JOB_CONFIG_EXAMPLE),
                parameters=[key, trace],
                errors=(400, 401, 413, 422, 429, 500),
            ),
            "get": operation(
                "List jobs, newest first",
                {200: json_answer("A page.", "JobPage", {"jobs": [DETAILS_EXAMPLE], "next": None})},
                parameters=[
                    query("type", {"type": "string", "enum": list(JobType)}),
                    query("state", {"type": "string", "enum": list(JobState)}),
                    query("since", {"type": "string", "format": "date-time"}),
                    query("before", {"type": "string"}),
                    query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}),
                ],
                errors=(400, 401, 429, 500),
            ),
        },
        "/jobs/{job_id}": {
            "parameters": [JOB_ID],
            "get": operation(
                "One job",
                {
                    200: json_answer("The job, with `details=1` more of it.", "Job", JOB_EXAMPLE),
                },
                parameters=[details],
                errors=(400, 401, 404, 429, 500),
            ),
            "delete": operation(
                "Delete a finished job's record, log, files and token",
                {200: NO_BODY, 202: _LATER},
                errors=(400, 401, 404, 409, 429, 500),
            ),
        },
        "/jobs/{job_id}/logs": {
            "parameters": [JOB_ID],
            "get": operation(
                "The job's log; with `follow=1` until the job ends",
                {200: plain_answer("Standard output and error.", '{"event":"started"}\n')},
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
    again = {"model": "large-v3", "language": "de,en", "vocabulary": ["Ada Lovelace"]}
    accepted = json_answer("It will be done; where to look.", "JobDetails", RETRANSCRIBED_EXAMPLE)
    accepted["headers"] = {
        "Location": {"required": True, "schema": {"type": "string", "pattern": "^/jobs/"}}
    }
    files = {"artifacts": [{"name": "67t5u6cmtfbb7jug739d43xa9e/part.mp4", "size_bytes": 734003}]}
    return {
        "/jobs/{job_id}/stop": {
            "parameters": [JOB_ID],
            "post": operation(
                "End a job as if its call were over",
                {
                    202: json_answer("It is ending.", "JobDetails", stopping),
                    200: json_answer("It had ended before.", "JobDetails", DETAILS_EXAMPLE),
                },
                errors=(401, 404, 409, 429, 500),
            ),
        },
        "/jobs/{job_id}/artifacts": {
            "parameters": [JOB_ID],
            "get": operation(
                "Files that the job left",
                {200: json_answer("Those not removed yet.", "Artifacts", files)},
                errors=(401, 404, 429, 500),
            ),
        },
        "/jobs/{job_id}/artifacts/{name}": {
            "parameters": [JOB_ID, name],
            "get": operation(
                "One of them, or a part of it; its name may hold slashes",
                {200: file_answer("Its content."), 206: file_answer("The part of it.", part=True)},
                parameters=[
                    header("Range", "One range of bytes; several count as none.", "bytes=0-1023"),
                    header("If-Range", "The part only of this version, else all.", EXAMPLE_ETAG),
                ],
                errors=(401, 404, 416, 429, 500),
            ),
        },
        "/jobs/{job_id}/republish": {
            "parameters": [JOB_ID],
            "post": operation(
                "Try again to publish what the job could not",
                {202: json_answer("It will be tried now.", "JobDetails", DETAILS_EXAMPLE)},
                body=body(
                    "Republish", {"auth_token": "9qmkrp3ksbgzxpi93rpq7ftwuy"}, required=False
                ),
                errors=(400, 401, 404, 409, 413, 429, 500),
            ),
        },
        "/jobs/{job_id}/retranscribe": {
            "parameters": [JOB_ID],
            "post": operation(
                "Transcribe the audio that a job kept again",
                {202: accepted},
                body=body("Retranscribe", again, required=False),
                errors=(400, 401, 404, 409, 413, 429, 500),
            ),
        },
    }
