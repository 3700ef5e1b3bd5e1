"""Cuts Kubernetes' published OpenAPI document down to what the double checks.

    python -m testbed.kubernetes.schema.reduce swagger.json v1.34.1 > kubernetes.json

`swagger.json` is api/openapi-spec/swagger.json of the Go module k8s.io/kubernetes. Objects are closed: like
a server with strict field validation, the double refuses a field that does not exist.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOTS: Final = (
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    # What the Helm charts make, for their tests.
    "io.k8s.api.apps.v1.DaemonSet",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "io.k8s.api.core.v1.ConfigMap",
    "io.k8s.api.core.v1.PersistentVolume",
    "io.k8s.api.core.v1.PersistentVolumeClaim",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.ServiceAccount",
    "io.k8s.api.networking.v1.Ingress",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.policy.v1.PodDisruptionBudget",
    "io.k8s.api.rbac.v1.Role",
    "io.k8s.api.rbac.v1.RoleBinding",
    "io.k8s.api.storage.v1.StorageClass",
)
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_QUANTITY_FORM: Final = {
    "type": ["string", "number"],
    "pattern": r"^[+-]?[0-9.]+([eE][+-]?[0-9]+|[numkKMGTPE]i?)?$",
}
_KEPT: Final = ("type", "required", "properties", "items", "enum", "additionalProperties")
_FORMATS: Final = {
    "int-or-string": {"type": ["integer", "string"]},
    "byte": {"type": "string", "pattern": r"^[A-Za-z0-9+/]*={0,2}$"},
}


def reduced(document: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A JSON schema (draft 7) whose `definitions` are the kinds above and all that they use."""
    wanted, found = list(ROOTS), dict[str, Any]()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        definition = document["definitions"][name]
        found[name] = _QUANTITY_FORM if name == _QUANTITY else _closed(_cut(definition))
        wanted += re.findall(r'"#/definitions/([^"]+)"', json.dumps(found[name]))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": (
            f"Reduced from Kubernetes {version}, api/openapi-spec/swagger.json. "
            "Copyright The Kubernetes Authors, Apache License 2.0 "
            "(http://www.apache.org/licenses/LICENSE-2.0). "
            "Changed: other kinds, descriptions and extensions left out, objects closed."
        ),
        "definitions": dict(sorted(found.items())),
    }


def _cut(schema: Any) -> Any:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    kept = {key: schema[key] for key in _KEPT if key in schema}
    if "properties" in kept:
        kept["properties"] = {name: _cut(part) for name, part in kept["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _cut(kept[key])
    return kept


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema


if __name__ == "__main__":
    source = json.loads(Path(sys.argv[1]).read_text())
    json.dump(reduced(source, sys.argv[2]), sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")
