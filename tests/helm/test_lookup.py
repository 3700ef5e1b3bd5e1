"""An upgrade keeps what is in the cluster: the key of the stored tokens, what of a claim cannot change."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "my-pvc", "namespace": "chat"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "gp2",
        "volumeName": "pvc-0123",
        "resources": {"requests": {"storage": "100Gi"}},
    },
}
KEY = base64.b64encode(b"the key of the first installation").decode()
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "calls-mattermost-calls-offloader-key", "namespace": "chat"},
    "data": {"key": KEY},
}
KINDS = [
    {"name": "secrets", "singularName": "", "namespaced": True, "kind": "Secret", "verbs": ["get"]},
    {
        "name": "persistentvolumeclaims",
        "singularName": "",
        "namespaced": True,
        "kind": "PersistentVolumeClaim",
        "verbs": ["get"],
    },
]
ANSWERS: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": KINDS},
    "/api/v1/namespaces/chat/persistentvolumeclaims/my-pvc": CLAIM,
    "/api/v1/namespaces/chat/secrets/calls-mattermost-calls-offloader-key": SECRET,
}


class Api(BaseHTTPRequestHandler):
    """As much of an API server as Helm's `lookup` looks at."""

    def do_GET(self) -> None:
        found = ANSWERS.get(self.path.partition("?")[0])
        gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
        body = json.dumps(gone | {"code": 404} if found is None else found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of it is printed."""


@pytest.fixture
def cluster() -> Iterator[str]:
    """Helm's arguments to ask a server that has both objects."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"--kube-apiserver=http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_what_exists_is_kept(cluster: str, helm: Any, one: Any) -> None:
    values = (
        "--set=database.existingSecret=db,volumeConfig.usePVC=true,persistentVolume.storage=200Gi"
    )
    objects = helm.objects("offloader", values, "--dry-run=server", cluster)
    secret = one(objects, "Secret/calls-mattermost-calls-offloader-key")
    assert secret["data"]["key"] == KEY
    claim = one(objects, "PersistentVolumeClaim/my-pvc")
    assert claim["spec"] == {**CLAIM["spec"], "resources": {"requests": {"storage": "200Gi"}}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sharing", ["database.existingSecret=db", "jobs.apiType=celery,broker.existingSecret=broker"]
)
def test_a_first_installation_makes_its_own(sharing: str, helm: Any, one: Any) -> None:
    values = f"--set={sharing},volumeConfig.usePVC=true"
    first, second = (helm.objects("offloader", values) for _ in range(2))
    name = "Secret/calls-mattermost-calls-offloader-key"
    keys = [base64.b64decode(one(objects, name)["data"]["key"]) for objects in (first, second)]
    assert len(keys[0]) == 48
    assert keys[0] != keys[1]
    claim = one(first, "PersistentVolumeClaim/my-pvc")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
