"""The keys `jobs.docker.*`, `jobs.kubernetes.*`, `jobs.process.*`: a part of the table of `setting_keys`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

PULL_POLICIES: Final = ("missing", "always", "never")
_PYTHON: Final = sys.executable or "python3"

BACKEND_KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
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
        "jobs.docker.allow_plain_tcp": Key(
            "bool",
            False,
            "JOBS_DOCKER_ALLOWPLAINTCP",
            "Use an engine over TCP without TLS, on loopback too: "
            "whoever reaches its port is root on its host.",
        ),
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
            "Resource requirements per job type, as JSON or YAML: recording and transcribing, each with "
            "requests and limits.",
        ),
        "jobs.kubernetes.persistent_volume_claim_name": Key(
            "str", "", "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME", "Claim behind the jobs' /data."
        ),
        "jobs.kubernetes.node_sysctls": Key(
            "str",
            "",
            "JOBS_KUBERNETES_NODESYSCTLS",
            "Kernel parameters set on the job's node, as name=value with commas; needs privileged.",
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
            "bool",
            False,
            "SECURITY_CONTEXT_PRIVILEGED",
            "Run the job containers privileged, and allow the init container of node_sysctls. Our images "
            "need neither.",
        ),
        "jobs.kubernetes.pod_template": Key(
            "any",
            "",
            "JOBS_KUBERNETES_PODTEMPLATE",
            "Changes of the job pods per job type, as JSON or YAML: a strategic-merge patch of the pod "
            "template, whose container is called job.",
        ),
        "jobs.kubernetes.persistent_volume_claim_dir": Key(
            "str",
            "",
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR",
            "Where this service has that claim mounted: only then it can hand out files, and publish what a "
            "job could not.",
        ),
        "jobs.kubernetes.models_claim_name": Key(
            "str",
            "",
            "JOBS_KUBERNETES_MODELSCLAIMNAME",
            "Claim with one folder per speech model, mounted read-only at /models. Empty: the models in the "
            "image.",
        ),
        "jobs.kubernetes.ca_config_map": Key(
            "str",
            "",
            "JOBS_KUBERNETES_CACONFIGMAP",
            "ConfigMap with the private CA of the site and its SFU: name, or name/key; the key is ca.crt. "
            "Empty: jobs.ca_cert_file, if that is set.",
        ),
        "jobs.kubernetes.node_sysctls_image": Key(
            "str",
            "",
            "JOBS_KUBERNETES_NODESYSCTLSIMAGE",
            "Image with a shell that sets them. Empty: the job's own image.",
        ),
        "jobs.kubernetes.prepull_nodes": Key(
            "int",
            0,
            "JOBS_KUBERNETES_PREPULLNODES",
            "On how many nodes the jobs' images are pulled when the plugin starts, so that no recording "
            "waits for one: at least as many as can take jobs. 0: nodes pull with the first job.",
        ),
        "jobs.kubernetes.start_timeout_s": Key(
            "float",
            180.0,
            "JOBS_KUBERNETES_STARTTIMEOUTS",
            "Seconds after which a job whose pod does not start is given up; the plugin waits a minute.",
        ),
        "jobs.kubernetes.instance": Key(
            "str",
            "default",
            "JOBS_KUBERNETES_INSTANCE",
            "Label of this installation's Jobs: services that share a namespace without sharing a store must "
            "differ in it, replicas must not.",
        ),
        "jobs.kubernetes.kubeconfig": Key(
            "str",
            "",
            "KUBECONFIG",
            "How to reach the cluster from outside of it. Empty: by the pod's service account, else "
            "~/.kube/config.",
        ),
        "jobs.kubernetes.log_max_size": Key(
            "size",
            "16MiB",
            "JOBS_KUBERNETES_LOGMAXSIZE",
            "What is kept of one job's log: its first half and its newest part.",
        ),
        "jobs.process.jobs_dir": Key(
            "str",
            None,
            "JOBS_PROCESS_JOBSDIR",
            "Where process jobs keep their files; the default is jobs/ in the service's state directory.",
        ),
        "jobs.process.user": Key(
            "str",
            "",
            "JOBS_PROCESS_USER",
            "User of this host whom process jobs run as, when the service is root or has the capabilities to "
            "change users. Empty: its own user, whose files jobs can read then.",
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
            None,
            "JOBS_PROCESS_STOPGRACES",
            "Former name of jobs.stop_grace_s, for every backend; has no effect where that one is set.",
        ),
        "jobs.process.memory_max": Key(
            "size",
            0,
            "JOBS_PROCESS_MEMORYMAX",
            "Memory of a job and all it has started, above which it is killed: bytes, or 8GiB; 0 = no limit. "
            "By the kernel where the service has been given control groups (Delegate=yes), else by a look at "
            "its resident memory once a second.",
        ),
        "jobs.process.cpus": Key(
            "float",
            0.0,
            "JOBS_PROCESS_CPUS",
            "Cores that one job may use, where the service has been given control groups; 0 = no limit.",
        ),
        "jobs.process.pids": Key(
            "int",
            1024,
            "JOBS_PROCESS_PIDS",
            "Processes and threads of one job, where the service has been given control groups.",
        ),
        "jobs.process.log_max_bytes": Key(
            "int",
            16 * 1024 * 1024,
            "JOBS_PROCESS_LOGMAXBYTES",
            "What is kept of one job's log: its first half and its newest part.",
        ),
    }
)
