"""Every key of the configuration, its environment variable, default and meaning (job-service.md 3).

The documentation is generated from this table; `settings.py` turns what was read into frozen groups.
A default of None depends on the machine and is found when the settings are loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

DEFAULT_CONFIG_PATH: Final = Path("config/config.toml")
PULL_POLICIES: Final = ("missing", "always", "never")
API_TYPES: Final = ("docker", "kubernetes", "process", "celery")
LOG_LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
_LEVEL_HELP: Final = f"The least severe level that is written there: {', '.join(LOG_LEVELS)}."
_PYTHON: Final = sys.executable or "python3"

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
        "api.security.session_cache.expiration_minutes": Key(
            "int",
            1440,
            "API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES",
            "Life of a bearer token in minutes.",
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
            "cores and memory allow.",
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
            "How long record and log of a job that published everything are kept; same form.",
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
            "Jobs that transcribe or upload after their call without holding a place, and retries of "
            "unpublished results, each at most so many at a time.",
        ),
        "jobs.outbox_max_age": Key(
            "str",
            "14d",
            "JOBS_OUTBOXMAXAGE",
            "How long publishing a result is tried again: 30m, 12h, 14d; 0 = for ever.",
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
        "jobs.docker.output_logs": Key(
            "bool",
            False,
            "JOBS_DOCKER_OUTPUTLOGS",
            "Repeat the jobs' log lines in the service's log.",
        ),
        "jobs.docker.network": Key(
            "str", "", "DOCKER_NETWORK", "Network mode of the job containers, such as host."
        ),
        "jobs.docker.host": Key("str", "", "DOCKER_HOST", "Address of the Docker Engine."),
        "jobs.docker.memory": Key(
            "size",
            "8GiB",
            "JOBS_DOCKER_MEMORY",
            "What one job container may use; beyond it the job is killed. 0: no limit.",
        ),
        "jobs.docker.cpus": Key(
            "float", 0.0, "JOBS_DOCKER_CPUS", "Cores that one job container may use. 0: no limit."
        ),
        "jobs.docker.pids": Key(
            "int", 1024, "JOBS_DOCKER_PIDS", "Processes and threads of one job container."
        ),
        "jobs.docker.log_max_size": Key(
            "size", "16MiB", "JOBS_DOCKER_LOGMAXSIZE", "What is kept of one container's log."
        ),
        "jobs.docker.pull_policy": Key(
            "str",
            "missing",
            "JOBS_DOCKER_PULLPOLICY",
            f"When images are pulled: {', '.join(PULL_POLICIES)}.",
        ),
        "jobs.docker.models_dir": Key(
            "str",
            "",
            "JOBS_DOCKER_MODELSDIR",
            "Directory on the engine's host, or name of a volume, with one folder per speech model; mounted "
            "read-only at /models. Empty: the models in the image.",
        ),
        "jobs.docker.instance": Key(
            "str",
            "default",
            "JOBS_DOCKER_INSTANCE",
            "Label of this installation's containers: services that share an engine without sharing a store "
            "must differ in it, replicas must not.",
        ),
        "jobs.kubernetes.jobs_resource_requirements": Key(
            "any",
            "",
            "JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS",
            "Resource requirements per job type, as JSON or YAML.",
        ),
        "jobs.kubernetes.persistent_volume_claim_name": Key(
            "str", "", "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME", "Claim mounted at /data."
        ),
        "jobs.kubernetes.node_sysctls": Key(
            "str", "", "JOBS_KUBERNETES_NODESYSCTLS", "Kernel parameters set on the job's node."
        ),
        "jobs.kubernetes.namespace": Key("str", "", "K8S_NAMESPACE", "Namespace of the jobs."),
        "jobs.kubernetes.tolerations": Key(
            "any",
            "",
            "K8S_JOB_POD_TOLERATIONS",
            "Tolerations of the job pods, as JSON or YAML; empty: utilities=true:NoSchedule.",
        ),
        "jobs.kubernetes.tolerations_file": Key(
            "str", "", "K8S_JOB_POD_TOLERATIONS_FILE", "File with those tolerations."
        ),
        "jobs.kubernetes.privileged": Key(
            "bool", False, "SECURITY_CONTEXT_PRIVILEGED", "Run the job containers privileged."
        ),
        "jobs.process.jobs_dir": Key(
            "str",
            None,
            "JOBS_PROCESS_JOBSDIR",
            "Where process jobs keep their files; the default is jobs/ in the service's state directory.",
        ),
        "jobs.process.models_dir": Key(
            "str",
            "",
            "JOBS_PROCESS_MODELSDIR",
            "MODELS_DIR of process jobs: one directory per model size. Empty: the job's own default.",
        ),
        "jobs.process.recorder_command": Key(
            "list",
            (_PYTHON, "-m", "jobs.recorder"),
            "JOBS_PROCESS_RECORDERCOMMAND",
            "Program and arguments of a recording job.",
        ),
        "jobs.process.transcriber_command": Key(
            "list",
            (_PYTHON, "-m", "jobs.transcriber"),
            "JOBS_PROCESS_TRANSCRIBERCOMMAND",
            "Program and arguments of a transcribing job.",
        ),
        "jobs.process.stop_grace_s": Key(
            "float",
            300.0,
            "JOBS_PROCESS_STOPGRACES",
            "Seconds from the polite stop to the kill; has to outlast the last upload.",
        ),
        "jobs.process.memory_max": Key(
            "size",
            0,
            "JOBS_PROCESS_MEMORYMAX",
            "Resident memory of a job and all it has started, above which its shim kills it: bytes, or "
            "8GiB; 0 = no limit.",
        ),
        "jobs.process.log_max_bytes": Key(
            "int",
            16 * 1024 * 1024,
            "JOBS_PROCESS_LOGMAXBYTES",
            "What is kept of one job's log: its first half and its newest part.",
        ),
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
