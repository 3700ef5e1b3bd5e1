"""The shapes that the OpenAPI document names, with examples."""

from __future__ import annotations

from typing import Any, Final

from offloader.failures import STAGES
from offloader.models import JobState, JobType, Publication, RetranscriptionState, StopReason
from offloader.retranscription_wish import ENGINES, MOST_WORDS

EXAMPLE_ID: Final = "5f0c3ba1d29e"
_EPOCH_MS: Final = {"type": "integer", "format": "int64", "description": "epoch milliseconds"}
_TIME_NAMES: Final = (
    *("created", "deadline", "stopped", "next_attempt"),
    *("retranscription_requested", "retranscription_ended"),
)
_TIMES: Final = {
    "type": "object",
    "description": "the moments of a job, RFC 3339 in UTC",
    "properties": {
        name: {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
        for name in _TIME_NAMES
    },
    "required": list(_TIME_NAMES),
}

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
    "failure": None,
    "deadline_at": 1769857200000,
    "times": {
        "created": "2026-01-31T10:00:00.000000Z",
        "deadline": "2026-01-31T11:00:00.000000Z",
        "stopped": "2026-01-31T11:00:00.000000Z",
        "next_attempt": None,
        "retranscription_requested": None,
        "retranscription_ended": None,
    },
    "post_call": True,
    "unpublished": False,
    "publication": None,
    "retranscription": None,
    "figures": {"cpu_s": 812.4},
}
RETRANSCRIBED_EXAMPLE: Final[dict[str, Any]] = {
    **DETAILS_EXAMPLE,
    "type": "transcribing",
    "runner": "mattermost/calls-transcriber:v0.7.2",
    "input_data": {
        "site_url": "https://chat.example.com",
        "call_id": "8w8jorhr7j83uqr6y1st894hqe",
        "post_id": "udzdsg7dwidbzcidx5khrf8nee",
        "transcription_id": "1r6ws6oi5jyq8xthsn4s5c9bny",
        "auth_token": "***",
        "model_size": "base",
        "keep_audio": "true",
    },
    "times": {
        **DETAILS_EXAMPLE["times"],
        "retranscription_requested": "2026-01-31T11:13:20.000000Z",
    },
    "retranscription": {
        "state": "waiting",
        "options": {"MODEL": "large-v3", "LANGUAGES": "de,en"},
        "publish": False,
        "artifacts": "1r6ws6oi5jyq8xthsn4s5c9bny/artifacts/again-6a1f09c3/",
        "requested_at": 1769858000000,
        "ended_at": None,
        "exit_code": None,
        "detail": "",
    },
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
        "description": "what the job is told; in answers values of known settings only, all others are `***`",
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

_FAILURE: Final = _object(
    {
        "stage": {"type": "string", "enum": list(STAGES)},
        "cause": _text(description="what went wrong, a sentence"),
        "evidence": {
            "type": "object",
            "additionalProperties": True,
            "description": "what shows it: detail, exit_code, http_status, candidate_pairs …",
        },
        "next_step": _text(description="what to do; empty: nothing"),
    }
)

_DELETION: Final = _object(
    {
        "requested_at": _EPOCH_MS,
        "when": _text(description="what it waits for; goes on from `to be deleted`"),
    }
)

_RETRANSCRIPTION: Final = _object(
    {
        "state": {"type": "string", "enum": list(RetranscriptionState)},
        "options": {
            "type": "object",
            "additionalProperties": _text(),
            "description": "variables that differ from the job's own; no secret",
        },
        "publish": {"type": "boolean"},
        "artifacts": _text(description="with this the names of its files begin, once it is done"),
        "requested_at": _EPOCH_MS,
        "ended_at": _nullable(_EPOCH_MS),
        "exit_code": _nullable({"type": "integer"}),
        "detail": _text(description="a sentence about what did not go as wished"),
    }
)
_RETRANSCRIBE: Final = _object(
    {
        "model": _text(
            description="a folder of MODELS_DIR; with `openai/whisper` the service's name of a model"
        ),
        "language": _text(description="`de`, several with commas to be told apart, or `auto`"),
        "engine": _text(enum=["", *ENGINES]),
        "vocabulary": {
            "type": "array",
            "items": _text(minLength=1, maxLength=100),
            "maxItems": MOST_WORDS,
        },
        "engine_options": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "description": "of a speech service, keys included; else those the job was given",
        },
        "publish": {"type": "boolean", "description": "post the new transcript, too"},
        "auth_token": _text(description="to publish with; else the newest one for that site"),
    },
    required=[],
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
            "client_id": _text(
                description="whose it is, for the admin only; empty: the admin's own"
            ),
            "state": {"type": "string", "enum": list(JobState)},
            "stop_reason": _nullable({"type": "string", "enum": list(StopReason)}),
            "exit_code": _nullable({"type": "integer"}),
            "detail": _text(description="a sentence about an end that was not clean"),
            "next_step": _text(description="what the admin should do, if anything"),
            "failure": _nullable(_FAILURE),
            "host": _text(
                description="for the admin only: the worker or host it is on; empty: there is one"
            ),
            "hold": _text(
                description="for the admin only: why nothing of it may be deleted; empty: it may"
            ),
            "deletion": {
                **_nullable(_DELETION),
                "description": "for the admin only: a deletion that waits",
            },
            "deadline_at": _EPOCH_MS,
            "times": _TIMES,
            "post_call": {"type": "boolean", "description": "its call is over"},
            "unpublished": {"type": "boolean", "description": "it left a result without a post"},
            "publication": _nullable(_PUBLICATION),
            "retranscription": _nullable(_RETRANSCRIPTION),
            "figures": {"type": "object", "additionalProperties": {"type": "number"}},
            "last_log_lines": {"type": "array", "items": _text()},
        },
        required=[
            *_JOB_REQUIRED,
            *("state", "stop_reason", "exit_code", "detail", "next_step", "failure", "deadline_at"),
            "times",
            *("post_call", "unpublished", "publication", "retranscription", "figures"),
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
    "Retranscribe": _RETRANSCRIBE,
    "Capacity": _object(
        {
            "limit": {"type": "integer"},
            "calls_in_progress": {"type": "integer"},
            "free": {"type": "integer"},
            "jobs": {"type": "integer"},
            "draining": {"type": "boolean"},
            "free_disk_bytes": _nullable({"type": "integer"}),
            "min_free_disk_bytes": _nullable({"type": "integer"}),
            "least_disk_bytes": _nullable({"type": "integer"}),
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
