"""Strategic merge of an admin's pod template into ours: pure.

As `kubectl patch` does it (kubernetes/community, strategic-merge-patch.md): maps are merged, null removes a
key, lists of the kinds below are merged by a key, all other lists are replaced. `$patch: delete` removes an
entry of a merged list, `$patch: replace` in a map replaces the whole map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}
"""`x-kubernetes-patch-merge-key` of PodSpec and Container."""
_DIRECTIVE: Final = "$patch"


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `patch` in it; neither is changed."""
    if patch.get(_DIRECTIVE) == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        elif _is_keyed(key, value):
            result[key] = _merged_list(result.get(key) or (), value, _MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def _is_keyed(key: str, value: Any) -> bool:
    return (
        key in _MERGE_KEYS
        and isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(entry, Mapping) and _MERGE_KEYS[key] in entry for entry in value)
    )


def _merged_list(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    result = list(base)
    for entry in patch:
        place = next((i for i, known in enumerate(result) if known.get(key) == entry[key]), None)
        if entry.get(_DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(merged({}, entry))
        else:
            result[place] = merged(result[place], entry)
    return result
