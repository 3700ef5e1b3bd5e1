"""Every key of the configuration, its environment variable, default and meaning (job-service.md 3).

The documentation is generated from this table; `settings.py` turns what was read into frozen groups.
A default of None depends on the machine and is found when the settings are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key
from offloader.setting_audit_keys import AUDIT_KEYS
from offloader.setting_backend_keys import BACKEND_KEYS
from offloader.setting_celery_keys import CELERY_KEYS
from offloader.setting_input_keys import INPUT_KEYS
from offloader.setting_watching_keys import WATCHING_KEYS

DEFAULT_CONFIG_PATH: Final = Path("config/config.toml")
API_TYPES: Final = ("docker", "kubernetes", "process", "celery")
LOG_LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
_LEVEL_HELP: Final = f"The least severe level that is written there: {', '.join(LOG_LEVELS)}."

KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "api.http.listen_address": Key(
            "str",
            ":4545",
            "API_HTTP_LISTENADDRESS",
            "host:port; an empty host means all interfaces.",
        ),
        "api.http.tls.enable": Key("bool", False, "API_HTTP_TLS_ENABLE", "Serve HTTPS."),
        "api.http.tls.cert_file": Key(
            "str", "", "API_HTTP_TLS_CERTFILE", "PEM file with the certificate chain."
        ),
        "api.http.tls.cert_key": Key(
            "str", "", "API_HTTP_TLS_CERTKEY", "PEM file with its private key."
        ),
        "api.http.trusted_proxies": Key(
            "list",
            (),
            "API_HTTP_TRUSTEDPROXIES",
            "Addresses and networks of the reverse proxies in front of the service: only from them "
            "X-Forwarded-For and X-Forwarded-Proto count. Empty: from nobody.",
        ),
        "api.security.enable_admin": Key(
            "bool", False, "API_SECURITY_ENABLEADMIN", "Accept the admin's secret key."
        ),
        "api.security.admin_secret_key": Key(
            "str",
            "",
            "API_SECURITY_ADMINSECRETKEY",
            "Basic auth password of the admin, whatever the user name.",
            secret=True,
        ),
        "api.security.allow_self_registration": Key(
            "bool",
            False,
            "API_SECURITY_ALLOWSELFREGISTRATION",
            "An unknown client's first Basic request registers it; the Calls plugin needs this.",
        ),
        "api.security.allowed_clients": Key(
            "list",
            (),
            "API_SECURITY_ALLOWEDCLIENTS",
            "Client IDs that may register themselves, such as the diagnostic ID of your Mattermost; whoever "
            "is registered stays so. Empty: any.",
        ),
        "api.security.allowed_networks": Key(
            "list",
            (),
            "API_SECURITY_ALLOWEDNETWORKS",
            "Addresses and networks that clients may register themselves from, such as 10.1.0.0/16. Empty: "
            "any.",
        ),
        "api.security.registration_limits.per_network": Key(
            "int",
            20,
            "API_SECURITY_REGISTRATIONLIMITS_PERNETWORK",
            "Clients of one network (IPv4: /24, IPv6: /48) that may register themselves within an hour; a "
            "Mattermost is one client. 0: any number.",
        ),
        "api.security.registration_limits.total": Key(
            "int",
            1000,
            "API_SECURITY_REGISTRATIONLIMITS_TOTAL",
            "Clients beyond which none registers itself; offloader clients add goes on, and whoever is "
            "registered stays so. 0: any number.",
        ),
        "api.security.session_cache.expiration_minutes": Key(
            "int",
            1440,
            "API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES",
            "Life of a bearer token in minutes.",
        ),
        "api.admin.page": Key(
            "bool",
            True,
            "API_ADMIN_PAGE",
            "The admin's page at / for browsers, with a login by the admin's secret key; without that key "
            "there is none.",
        ),
        "api.admin.show_content": Key(
            "bool",
            False,
            "API_ADMIN_SHOWCONTENT",
            "On the admin's page, files of jobs (recordings, transcripts) can be downloaded; otherwise only "
            "their names and sizes are shown.",
        ),
        "api.admin_socket": Key(
            "str",
            None,
            "API_ADMINSOCKET",
            "Unix socket, for its owner and root only, through which the commands reach the service as its "
            "admin. Empty: none. The default lies beside the SQLite file, else in the state directory.",
        ),
        "store.data_source": Key(
            "str",
            None,
            "STORE_DATASOURCE",
            "Path of the SQLite file (a directory gets offloader.db inside), or a database URL. The default "
            "is offloader.db in the service's state directory.",
        ),
        "jobs.api_type": Key(
            "str", "docker", "JOBS_APITYPE", f"What runs the jobs: {', '.join(API_TYPES)}."
        ),
        "jobs.max_concurrent_jobs": Key(
            "int",
            2,
            "JOBS_MAXCONCURRENTJOBS",
            "Calls served at the same time; a recording and its transcription count once. auto: as many as "
            "cores and memory allow. With celery the workers' slots count, and this only where it is set.",
            words=("auto",),
        ),
        "jobs.failed_jobs_retention_time": Key(
            "str",
            "30d",
            "JOBS_FAILEDJOBSRETENTIONTIME",
            "How long record, log and files of a failed job are kept: 30m, 12h, 30d; 0 = for ever.",
        ),
        "jobs.completed_jobs_retention_time": Key(
            "str",
            "1d",
            "JOBS_COMPLETEDJOBSRETENTIONTIME",
            "How long record, log and artifacts of a job that published everything are kept; same form.",
        ),
        "jobs.keep_published": Key(
            "str",
            "0",
            "JOBS_KEEPPUBLISHED",
            "How long files of a published job (tracks, texts, transcripts, kept audio) stay here after its "
            "publication: 12h, 7d; at most as long as its record. 0: they are deleted within a minute.",
        ),
        "jobs.unpublished_quota": Key(
            "size",
            "50GiB",
            "JOBS_UNPUBLISHEDQUOTA",
            "Size of all results that could not be published, at which calls that are not recorded yet are "
            "refused; none is ever deleted to make room. 0 = any.",
        ),
        "jobs.admission_wait_s": Key(
            "float",
            20.0,
            "JOBS_ADMISSIONWAITS",
            "Seconds that a new job waits for a free place; the plugin waits a minute in all.",
        ),
        "jobs.min_free_disk": Key(
            "size",
            "1GiB",
            "JOBS_MINFREEDISK",
            "What jobs must leave free on the disk at their ends: bytes, or 500MiB, 5GiB; 0 = not looked at.",
        ),
        "jobs.post_call_slots": Key(
            "int",
            2,
            "JOBS_POSTCALLSLOTS",
            "Jobs that transcribe or upload after their call without holding a place (with celery: on each "
            "worker), and retries of unpublished results, each at most so many at a time.",
        ),
        "jobs.client_limits.slots": Key(
            "int",
            0,
            "JOBS_CLIENTLIMITS_SLOTS",
            "Calls of one client at a time; a recording and its transcription count once. 0: as many as "
            "there are places.",
        ),
        "jobs.client_limits.queue": Key(
            "int",
            100,
            "JOBS_CLIENTLIMITS_QUEUE",
            "Jobs of one client that may wait for a place; places go to the clients in rotation. 0: any "
            "number.",
        ),
        "jobs.client_limits.disk": Key(
            "size",
            0,
            "JOBS_CLIENTLIMITS_DISK",
            "What the running jobs of one client may still write, by their bit rates and times: bytes, or "
            "500MiB, 50GiB; 0 = any.",
        ),
        "jobs.client_limits.event_streams": Key(
            "int",
            100,
            "JOBS_CLIENTLIMITS_EVENTSTREAMS",
            "Streams of GET /events that one client may have at a time. 0: any number.",
        ),
        "jobs.outbox_max_age": Key(
            "str",
            "14d",
            "JOBS_OUTBOXMAXAGE",
            "How long publishing a result is tried again: 30m, 12h, 14d; 0 = for ever.",
        ),
        "jobs.stop_grace_s": Key(
            "float",
            300.0,
            "JOBS_STOPGRACES",
            "Seconds from the polite stop of a job to its kill; has to outlast the last upload.",
        ),
        "jobs.image_registry": Key(
            "str", "mattermost", "JOBS_IMAGEREGISTRY", "Registry that runner names must begin with."
        ),
        "jobs.runner_images": Key(
            "table",
            MappingProxyType({}),
            "JOBS_RUNNERIMAGES",
            "Images that run in place of the runners the plugin names; * stands for any text, the longest "
            "name that fits counts. Other runners get this release's own images.",
        ),
        "jobs.use_reference_images": Key(
            "bool",
            False,
            "JOBS_USEREFERENCEIMAGES",
            "Run the images that the plugin names where runner_images names none.",
        ),
        "jobs.ca_cert_file": Key(
            "str",
            "",
            "JOBS_CACERTFILE",
            "PEM file with the private CA of the site and its SFU, handed to every job.",
        ),
        "jobs.http_proxy": Key(
            "str",
            None,
            "JOBS_HTTPPROXY",
            "HTTP_PROXY of every job: API, uploads and WebSocket, never media. The default is the "
            "service's own; empty: none.",
            secret=True,
        ),
        "jobs.https_proxy": Key(
            "str",
            None,
            "JOBS_HTTPSPROXY",
            "HTTPS_PROXY of every job; as http_proxy.",
            secret=True,
        ),
        "jobs.no_proxy": Key(
            "str",
            None,
            "JOBS_NOPROXY",
            "NO_PROXY of every job: names and addresses that are reached directly, with commas.",
        ),
        "jobs.copies_url": Key(
            "str",
            "",
            "JOBS_COPIESURL",
            "Where jobs copy their files to every five seconds, so that a lost host costs seconds only: "
            "`s3://bucket/prefix`, by the service's own AWS_* variables, or `file:///directory`. "
            "Empty: nowhere.",
        ),
        "jobs.allowed_site_urls": Key(
            "list",
            (),
            "JOBS_ALLOWEDSITEURLS",
            "The sites whose calls are served; a job for any other is refused. Empty: every site but those "
            "at link-local and metadata addresses.",
        ),
        "jobs.site_url_overrides": Key(
            "table",
            MappingProxyType({}),
            "JOBS_SITEURLOVERRIDES",
            "Site URLs as the plugin sends them, and under which URL jobs reach that site.",
        ),
        "jobs.extra_hosts": Key(
            "list",
            (),
            "JOBS_EXTRAHOSTS",
            "name:address pairs that jobs in containers know, such as chat.example.com:10.0.0.5.",
        ),
        **INPUT_KEYS,
        **BACKEND_KEYS,
        **CELERY_KEYS,
        **WATCHING_KEYS,
        **AUDIT_KEYS,
        "logger.enable_console": Key(
            "bool", True, "LOGGER_ENABLECONSOLE", "Log to standard error."
        ),
        "logger.console_json": Key(
            "bool", False, "LOGGER_CONSOLEJSON", "One JSON object per line."
        ),
        "logger.console_level": Key("str", "INFO", "LOGGER_CONSOLELEVEL", _LEVEL_HELP),
        "logger.enable_file": Key("bool", True, "LOGGER_ENABLEFILE", "Log to a file."),
        "logger.file_json": Key("bool", True, "LOGGER_FILEJSON", "One JSON object per line."),
        "logger.file_level": Key("str", "DEBUG", "LOGGER_FILELEVEL", _LEVEL_HELP),
        "logger.file_location": Key(
            "str", "calls-offloader.log", "LOGGER_FILELOCATION", "Path of the log file."
        ),
        "logger.file_max_size": Key(
            "size",
            "32MiB",
            "LOGGER_FILEMAXSIZE",
            "Size at which the log file is put aside and a new one begun.",
        ),
        "logger.file_max_age": Key(
            "str",
            "30d",
            "LOGGER_FILEMAXAGE",
            "Age at which it is put aside, and at which files put aside are deleted; 0 = never.",
        ),
        "logger.file_keep": Key(
            "int", 3, "LOGGER_FILEKEEP", "Files put aside that are kept, the newest ones."
        ),
        "logger.enable_color": Key(
            "bool", False, "LOGGER_ENABLECOLOR", "Accepted; the log is never coloured."
        ),
    }
)
