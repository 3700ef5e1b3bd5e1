"""The shapes that the OpenAPI document names, with examples."""

from __future__ import annotations

from typing import Any, Final

from offloader.models import JobState, JobType, Publication, StopReason

EXAMPLE_ID: Final = "5f0c3ba1d29e"
_EPOCH_MS: Final = {"type": "integer", "format": "int64", "description": "epoch milliseconds"}

JOB_CONFIG_EXAMPLE: Final[dict[str, Any]] = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 3600,
    "input_data": {
        "site_url": "https://chat.example.com",
        "call_id": "8w8jorhr7j83uqr6y1st894hqe",
        "post_id": "udzdsg7dwidbzcidx5khrf8nee",
        "recording_id": "67t5u6cmtfbb7jug739d43xa9e",
        "auth_token": "9qmkrp3ksbgzxpi93rpq7ftwuy",
        "width": 1280,
        "height": 720,
        "video_rate": 1500,
        "audio_rate": 64,
        "frame_rate": 20,
        "video_preset": "veryfast",
        "output_format": "mp4",
    },
}
JOB_EXAMPLE: Final[dict[str, Any]] = {
    **JOB_CONFIG_EXAMPLE,
    "input_data": {**JOB_CONFIG_EXAMPLE["input_data"], "auth_token": "***"},
    "id": EXAMPLE_ID,
    "start_at": 1769853600000,
}
DETAILS_EXAMPLE: Final[dict[str, Any]] = {
    **JOB_EXAMPLE,
    "stop_at": 1769857200000,
    "state": "finished",
    "stop_reason": "completed",
    "exit_code": 0,
    "detail": "",
    "next_step": "",
    "deadline_at": 1769857200000,
    "post_call": True,
    "unpublished": False,
    "publication": None,
    "figures": {"cpu_s": 812.4},
}

_CONFIG_PROPERTIES: Final[dict[str, Any]] = {
    "type": {"type": "string", "enum": list(JobType)},
    "runner": {
        "type": "string",
        "description": "`<registry>/calls-(recorder|transcriber):v<semver>`",
    },
    "max_duration_sec": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "input_data": {
        "type": "object",
        "additionalProperties": True,
        "description": "what the job gets as its environment; in answers secret values are `***`",
    },
}
_JOB_PROPERTIES: Final[dict[str, Any]] = {
    **_CONFIG_PROPERTIES,
    "id": {"type": "string", "pattern": "^[a-z0-9-]{12,63}$"},
    "start_at": _EPOCH_MS,
    "stop_at": _EPOCH_MS,
    "output_data": {"type": "object", "additionalProperties": True},
}
_JOB_REQUIRED: Final = [
    "type",
    "runner",
    "max_duration_sec",
    "input_data",
    "id",
    "start_at",
]


def _object(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(**limits: Any) -> dict[str, Any]:
    return {"type": "string", **limits}


_PUBLICATION: Final = _object(
    {
        "state": {"type": "string", "enum": list(Publication)},
        "attempts": {"type": "integer"},
        "next_at": _nullable(_EPOCH_MS),
        "detail": _text(),
    }
)

SCHEMAS: Final[dict[str, Any]] = {
    "Error": _object({"error": _text(), "code": _text(pattern="^[0-9]{3}$")}),
    "Version": _object(
        {name: _text() for name in ("buildDate", "buildVersion", "buildHash", "goVersion")}
    ),
    "Client": _object({"clientID": _text(minLength=1), "authKey": _text(minLength=32)}),
    "ClientID": _object({"clientID": _text(minLength=1)}),
    "Registered": _object({"clientID": _text(), "code": _text(const="201")}),
    "Unregistered": _object({"code": _text(const="200")}),
    "LoggedIn": _object({"bearerToken": _text(), "code": _text(const="200")}),
    "Runners": _object({"Runners": {"type": "array", "items": _text(), "minItems": 1}}),
    "JobConfig": _object(_CONFIG_PROPERTIES, required=["type", "runner", "max_duration_sec"]),
    "Job": _object(_JOB_PROPERTIES, required=_JOB_REQUIRED),
    "JobDetails": _object(
        {
            **_JOB_PROPERTIES,
            "state": {"type": "string", "enum": list(JobState)},
            "stop_reason": _nullable({"type": "string", "enum": list(StopReason)}),
            "exit_code": _nullable({"type": "integer"}),
            "detail": _text(description="a sentence about an end that was not clean"),
            "next_step": _text(description="what the admin should do, if anything"),
            "deadline_at": _EPOCH_MS,
            "post_call": {"type": "boolean", "description": "its call is over"},
            "unpublished": {"type": "boolean", "description": "it left a result without a post"},
            "publication": _nullable(_PUBLICATION),
            "figures": {"type": "object", "additionalProperties": {"type": "number"}},
            "last_log_lines": {"type": "array", "items": _text()},
        },
        required=[
            *_JOB_REQUIRED,
            *("state", "stop_reason", "exit_code", "detail", "next_step", "deadline_at"),
            *("post_call", "unpublished", "publication", "figures"),
        ],
    ),
    "JobPage": _object(
        {
            "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/JobDetails"}},
            "next": _nullable(_text(description="`before` of the next, older page")),
        }
    ),
    "Artifacts": _object(
        {
            "artifacts": {
                "type": "array",
                "items": _object({"name": _text(), "size_bytes": {"type": "integer"}}),
            }
        }
    ),
    "Republish": _object({"auth_token": _text()}, required=[]),
    "Capacity": _object(
        {
            "limit": {"type": "integer"},
            "calls_in_progress": {"type": "integer"},
            "free": {"type": "integer"},
            "jobs": {"type": "integer"},
            "draining": {"type": "boolean"},
            "free_disk_bytes": _nullable({"type": "integer"}),
            "min_free_disk_bytes": _nullable({"type": "integer"}),
        }
    ),
    "Status": _object({"status": _text()}),
    "NotReady": _object(
        {
            "error": _text(),
            "code": _text(const="503"),
            "reasons": {"type": "array", "items": _text()},
        }
    ),
}
