"""What the OpenAPI document is put together from: operations, their answers, parameters."""

from __future__ import annotations

from typing import Any, Final

from offloader.api.errors import NO_SUCH_JOB
from offloader.api.openapi_schemas import EXAMPLE_ID

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
    416: (
        "Nothing of the range is in the file; `Content-Range` has its size.",
        "no such range: the file has 734003 bytes",
    ),
    429: (
        "Too many logins or streams of this address, streams of this client, or registrations.",
        "too many logins from this address at once: try again in a few seconds",
    ),
    500: (
        "The job was not created, or the backend or the database failed.",
        "failed to create recording job: max concurrent jobs reached",
    ),
    503: ("Not now.", "nobody more can listen to events now: try again later, or poll GET /jobs"),
}
NO_BODY: Final[Document] = {"description": "Done; the body is empty."}
EXAMPLE_ETAG: Final = '"2a41-186f2d0c1f9e2b00-b3333"'
_BASIC_OR_BEARER: Final[list[Document]] = [{"basic": []}, {"bearer": []}]
JOB_ID: Final[Document] = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9-]{12,63}$"},
    "example": EXAMPLE_ID,
}


def operation(
    summary: str,
    answers: dict[int, Document],
    *,
    body: Document | None = None,
    parameters: list[Document] | None = None,
    errors: tuple[int, ...] = (),
    open_to_all: bool = False,
) -> Document:
    """An operation object; `errors` are statuses of the one form that all errors have."""
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
    return json_answer(description, "Error", {"error": text, "code": str(status)})


def json_answer(description: str, schema: str, example: Document) -> Document:
    """JSON of a named schema."""
    return {"description": description, "content": _json_content(schema, example)}


def body(schema: str, example: Document, *, required: bool = True) -> Document:
    """A request body of a named schema."""
    return {"required": required, "content": _json_content(schema, example)}


def _json_content(schema: str, example: Document) -> Document:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"application/json": {"schema": reference, "example": example}}


def plain_answer(description: str, example: str) -> Document:
    """A plain text."""
    content = {"text/plain": {"schema": {"type": "string"}, "example": example}}
    return {"description": description, "content": content}


def event_stream() -> Document:
    """Server-sent events."""
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


def file_answer(description: str, *, part: bool = False) -> Document:
    """A file's content, or with `part` a range of it."""

    def sent(pattern: str, *, required: bool = True) -> Document:
        return {"required": required, "schema": {"type": "string", "pattern": pattern}}

    headers = {
        "Accept-Ranges": sent("^bytes$"),
        "ETag": sent('^"[!#-~]+"$', required=False),
        "Content-Disposition": sent("^attachment; filename"),
    }
    if part:
        headers["Content-Range"] = sent("^bytes [0-9]+-[0-9]+/[0-9]+$")
    content: Document = {"application/octet-stream": {}}
    return {"description": description, "headers": headers, "content": content}


def header(name: str, description: str, example: str) -> Document:
    """An optional header of a request."""
    schema = {"type": "string"}
    return {
        "name": name,
        "in": "header",
        "schema": schema,
        "description": description,
        "example": example,
    }


def query(name: str, schema: Document) -> Document:
    """An optional query parameter."""
    return {"name": name, "in": "query", "schema": schema}
