"""What would install and not work is refused, by the name of the value; NOTES warn of what may be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NODE_PORT = "networking.hostNetwork=false,service.type=NodePort"
WORKERS = "jobs.apiType=celery,broker.existingSecret=broker"
REFUSED = [
    ("offloader", "replicaCount=2", "replicaCount = 2: more than one replica needs a database"),
    ("offloader", "autoscaling.enabled=true", "autoscaling.maxReplicas = 100: more than one"),
    (
        "offloader",
        "replicaCount=2,config[0].name=STORE_DATASOURCE,config[0].value=/data/db",
        "replicaCount = 2: more than one replica needs a database",
    ),
    ("offloader", "database.url=mysql://db/calls", "database.url: should begin with postgresql://"),
    ("offloader", "database.url=postgresql://a/b,database.existingSecret=c", "which one counts?"),
    (
        "offloader",
        "volumeConfig.usePVC=true,volumeConfig.useNFS=true",
        "volumeConfig.usePVC, volumeConfig.useNFS are all on: only one",
    ),
    (
        "offloader",
        "image.repository=mattermost/calls-offloader",
        "is the image that this chart replaces",
    ),
    ("offloader", "image.tag=v0.9.3", "image.tag = v0.9.3 is a release of the service that this"),
    ("offloader", "config[0].name=JOBS_APITYPE,config[0].value=docker", "JOBS_APITYPE = docker"),
    (
        "offloader",
        "config[0].name=A,config[0].value=x,config[1].name=A,config[1].value=y",
        "config: A is in it twice",
    ),
    (
        "offloader",
        "config[0].name=K8S_NAMESPACE,config[0].value=elsewhere",
        "K8S_NAMESPACE = elsewhere: the Role of this chart is for jobs in the release's namespace, chat",
    ),
    ("offloader", "admin.enabled=true", "admin.enabled needs admin.existingSecret"),
    ("offloader", "jobs.nodeSysctls=a.b=1", "jobs.nodeSysctls needs jobs.privileged"),
    ("offloader", "ingress.enabled=true", "ingress.enabled needs ingress.host"),
    (
        "offloader",
        "autoscaling.enabled=true,autoscaling.minReplicas=9,autoscaling.maxReplicas=1",
        "autoscaling.minReplicas = 9: should be at most autoscaling.maxReplicas = 1",
    ),
    ("offloader", "replicaCuont=1", "additional properties 'replicaCuont' not allowed"),
    ("offloader", "config[0].name=A,config[0].value=7", "got number, want string"),
    ("offloader", "resources.request.cpu=1", "additional properties 'request' not allowed"),
    ("offloader", "jobs.apiType=docker", "value must be one of 'kubernetes', 'celery'"),
    (
        "offloader",
        "jobs.apiType=celery",
        "celery needs broker.existingSecret, a Secret with the URL",
    ),
    (
        "offloader",
        "broker.existingSecret=b",
        "broker.existingSecret is for workers: set jobs.apiType",
    ),
    (
        "offloader",
        f"{WORKERS},tls.existingSecret=t",
        "tls.existingSecret with jobs.apiType = celery",
    ),
    ("offloader", f"{WORKERS},jobs.privileged=true", "jobs.privileged is for jobs.apiType = kuber"),
    ("offloader", f"{WORKERS},jobs.resources.recording.limits.cpu=2", "jobs.resources is for jobs"),
    (
        "offloader",
        f"{WORKERS},workers.onlyLabelled=true",
        "workers.onlyLabelled needs workers.labels",
    ),
    (
        "offloader",
        f"{WORKERS},workers.groups.gpu.onlyLabelled=true",
        "workers.groups.gpu.onlyLabelled needs workers.groups.gpu.labels",
    ),
    (
        "offloader",
        f"{WORKERS},workers.jobLabels.transcribing=gpu",
        "workers.jobLabels.transcribing = gpu: no worker has that label",
    ),
    (
        "offloader",
        f"{WORKERS},config[0].name=OFFLOADER_SECRET_KEY,config[0].value=x",
        "config: OFFLOADER_SECRET_KEY: workers need it, too: set secretKey.existingSecret",
    ),
    ("offloader", f"{WORKERS},workers.groups.Gpu.replicaCount=1", "'Gpu' does not match pattern"),
    ("offloader", f"{WORKERS},workers.slots=some", "at '/workers/slots': value must be 'auto'"),
    ("offloader", "jobs.copies.url=file:///data", "does not match pattern"),
    ("offloader", "jobs.copies.url=s3://a/b", "jobs.copies.url needs jobs.copies.existingSecret"),
    (
        "offloader",
        "jobs.copies.existingSecret=a",
        "jobs.copies.existingSecret needs jobs.copies.url",
    ),
    ("rtcd", "service.type=LoadBalancer", "LoadBalancer with configuration.replicas = 2"),
    ("rtcd", "service.type=LoadBalancer,deploymentType=daemonset", "deploymentType = daemonset"),
    ("rtcd", "networking.hostNetwork=false", "nobody outside the cluster could send media"),
    ("rtcd", NODE_PORT, "service.type = NodePort needs service.RTCnodePort"),
    ("rtcd", f"{NODE_PORT},service.RTCnodePort=30443", "set service.exposeAPI to false"),
    (
        "rtcd",
        f"{NODE_PORT},service.RTCnodePort=30443,service.exposeAPI=false,service.externalTrafficPolicy=Cluster",
        "service.externalTrafficPolicy has to be Local",
    ),
    ("rtcd", "deploymentType=daemonset,configuration.updateStrategy=Recreate", "OnDelete"),
    ("rtcd", "image.repository=docker.io/mattermost/rtcd", "is the image that this chart replaces"),
    ("rtcd", "ingress.enabled=true", "ingress.enabled needs ingress.host"),
    ("rtcd", "service.monitorPort=8045", "is another port of this chart as well"),
    ("rtcd", "service.RTCPort=1", "additional properties 'RTCPort' not allowed"),
]


def tiers() -> list[Any]:
    """The first of them in every run."""
    return [REFUSED[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in REFUSED[1:])]


@pytest.mark.parametrize(("chart", "values", "text"), tiers())
def test_it_is_refused_by_name(chart: str, values: str, text: str, helm: Any) -> None:
    assert text in helm.refusal(chart, f"--set={values}")


NOTES = [
    (
        "offloader",
        "",
        "Job service URL:  http://calls-mattermost-calls-offloader.chat.svc:4545",
        True,
    ),
    (
        "offloader",
        "tls.existingSecret=a,service.port=443",
        "https://calls-mattermost-calls-offloader.chat.svc:443",
        True,
    ),
    ("offloader", "", "When that node is lost, so is what has not been\npublished", True),
    ("offloader", "volumeConfig.useNFS=true", "When that node is lost", False),
    (
        "offloader",
        "jobs.copies.url=s3://a/b,jobs.copies.existingSecret=keys",
        "When that node is lost",
        False,
    ),
    ("offloader", WORKERS, "When that node is lost", True),
    ("offloader", f"{WORKERS},volumeConfig.usePVC=true", "When that node is lost", False),
    ("offloader", f"{WORKERS},jobs.copies.url=s3://a", "When that node is lost", False),
    ("offloader", WORKERS, "that of the Secret broker. It has to be there", True),
    ("offloader", WORKERS, "get pods --selector app.kubernetes.io/name=mattermost-calls-off", True),
    ("offloader", f"{WORKERS},workers.groups.gpu.replicaCount=1", "workers, workers-gpu", True),
    (
        "offloader",
        f"{WORKERS},config[0].name=JOBS_MAXCONCURRENTJOBS,config[0].value=auto",
        "JOBS_MAXCONCURRENTJOBS = auto limits the calls, however many",
        True,
    ),
    (
        "offloader",
        "config[0].name=JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME,config[0].value=c",
        "has not mounted the claim c",
        True,
    ),
    (
        "offloader",
        "volumeConfig.usePVC=true,persistentVolume.accessModes={ReadWriteOnce}",
        "is not ReadWriteMany",
        True,
    ),
    ("offloader", "persistence.enabled=false", "forgotten with the pod", True),
    ("offloader", "", "Self-registration is on", True),
    ("offloader", "config=null", "Self-registration is off", True),
    (
        "offloader",
        "config[0].name=API_SECURITY_ADMINSECRETKEY,config[0].value=secret",
        "WARNING: API_SECURITY_ADMINSECRETKEY stands in",
        True,
    ),
    ("offloader", "", "in plain text", False),
    ("rtcd", "", "RTCD service URL:  http://calls-mattermost-rtcd.chat.svc:8045", True),
    ("rtcd", "", "port 8443, UDP and TCP, of the nodes", True),
    (
        "rtcd",
        "service.type=LoadBalancer,configuration.replicas=1",
        "Set rtcd.ice.hostOverride to the load balancer",
        True,
    ),
    ("rtcd", "service.clusterIP=", "service.clusterIP is not None", True),
    ("rtcd", "image.tag=v9.9.9", "image.tag is v9.9.9, this chart was made for", True),
]


@pytest.mark.slow
def test_notes_say_what_to_enter_and_what_to_fear(helm: Any, tmp_path: Path) -> None:
    for chart, values, text, there in NOTES:
        arguments = [f"--set={values}"] if values else []
        notes = helm.notes(chart, *arguments, folder=tmp_path)
        assert (text in notes) is there, f"{chart} {values}: {notes}"
