"""The keys `jobs.celery.*` and `worker.*`: see `setting_keys.py`, whose table they are part of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

WORKER_API_TYPES: Final = ("process", "docker")

CELERY_KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "jobs.celery.broker_url": Key(
            "str",
            "redis://127.0.0.1:6379/0",
            "JOBS_CELERY_BROKERURL",
            "The broker between service and workers: redis:// or amqp:// (RabbitMQ) on this host, on another "
            "one rediss:// or amqps:// with a password.",
            secret=True,
        ),
        "jobs.celery.allow_insecure_broker": Key(
            "bool",
            False,
            "JOBS_CELERY_ALLOWINSECUREBROKER",
            "Use a broker on another host without TLS or without a password, too: only where nobody else "
            "reaches that network.",
        ),
        "jobs.celery.queue_prefix": Key(
            "str",
            "calls",
            "JOBS_CELERY_QUEUEPREFIX",
            "What queues and broadcasts are named after: installations that share a broker must differ in "
            "it; replicas of one, and its workers, must not.",
        ),
        "jobs.celery.labels": Key(
            "table",
            MappingProxyType({}),
            "JOBS_CELERY_LABELS",
            "Label of the workers that a job type is sent to, such as transcribing = gpu; types that are not "
            "named go to any worker that is not worker.only_labelled.",
        ),
        "jobs.celery.own_url": Key(
            "str",
            None,
            "JOBS_CELERY_OWNURL",
            "Under which URL workers reach this very replica, no load balancer. The default is this host's "
            "name and the port of api.http.listen_address.",
        ),
        "jobs.celery.claim_wait_s": Key(
            "float",
            10.0,
            "JOBS_CELERY_CLAIMWAITS",
            "Seconds in which a worker has to take a job; the plugin waits a minute in all.",
        ),
        "jobs.celery.transcribe_stage": Key(
            "bool",
            False,
            "JOBS_CELERY_TRANSCRIBESTAGE",
            "Read by workers: hand each speaker's track to any worker after the call; otherwise the worker "
            "that was in the call transcribes.",
        ),
        "worker.name": Key(
            "str",
            None,
            "WORKER_NAME",
            "What this worker is called; no two on one broker may share it. The default is the host's name.",
        ),
        "worker.api_type": Key(
            "str",
            "process",
            "WORKER_APITYPE",
            f"How `offloader worker` runs jobs on its host, by the same jobs.* settings: "
            f"{', '.join(WORKER_API_TYPES)}.",
        ),
        "worker.listen_address": Key(
            "str",
            ":4546",
            "WORKER_LISTENADDRESS",
            "host:port of the worker's door; an empty host means all interfaces.",
        ),
        "worker.url": Key(
            "str",
            None,
            "WORKER_URL",
            "Under which URL service and workers reach that door. The default is this host's name and the "
            "port of worker.listen_address.",
        ),
        "worker.slots": Key(
            "int",
            "auto",
            "WORKER_SLOTS",
            "Calls that this worker serves at the same time. auto: as many as cores and memory allow.",
            words=("auto",),
        ),
        "worker.transcribe_slots": Key(
            "int",
            1,
            "WORKER_TRANSCRIBESLOTS",
            "Tracks that this worker transcribes at the same time after calls; 0 = none.",
        ),
        "worker.labels": Key(
            "list",
            (),
            "WORKER_LABELS",
            "Labels of this host, such as gpu: it takes jobs that are sent to them.",
        ),
        "worker.only_labelled": Key(
            "bool", False, "WORKER_ONLYLABELLED", "Take no jobs but those sent to its labels."
        ),
        "worker.tls_cert_file": Key(
            "str",
            "",
            "WORKER_TLSCERTFILE",
            "PEM file with the certificate chain of the door, so that it serves HTTPS. Empty: HTTP.",
        ),
        "worker.tls_key_file": Key(
            "str", "", "WORKER_TLSKEYFILE", "PEM file with its private key."
        ),
    }
)
