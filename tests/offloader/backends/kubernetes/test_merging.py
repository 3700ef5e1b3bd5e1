"""Strategic merge, as kubectl does it."""

from __future__ import annotations

import pytest

from offloader.backends.kubernetes.merging import merged


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"args": ["x"]}, {"args": ["y"]}, {"args": ["y"]}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": []}, {"tolerations": []}),
        (
            {"containers": [{"name": "job", "image": "i", "env": [{"name": "A", "value": "1"}]}]},
            {"containers": [{"name": "job", "env": [{"name": "B", "value": "2"}]}, {"name": "x"}]},
            {
                "containers": [
                    {
                        "name": "job",
                        "image": "i",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    },
                    {"name": "x"},
                ]
            },
        ),
        (
            {"volumes": [{"name": "data"}, {"name": "tmp"}]},
            {"volumes": [{"name": "tmp", "$patch": "delete"}]},
            {"volumes": [{"name": "data"}]},
        ),
        (
            {"securityContext": {"runAsUser": 1, "fsGroup": 2}},
            {"securityContext": {"$patch": "replace", "runAsUser": 3}},
            {"securityContext": {"runAsUser": 3}},
        ),
        (
            {"volumeMounts": [{"mountPath": "/data", "name": "data"}]},
            {"volumeMounts": [{"mountPath": "/data", "name": "other"}]},
            {"volumeMounts": [{"mountPath": "/data", "name": "other"}]},
        ),
    ],
)
def test_maps_merge_lists_merge_by_their_key_and_null_removes(base, patch, result) -> None:
    assert merged(base, patch) == result


def test_neither_side_is_changed() -> None:
    base = {"containers": [{"name": "job", "env": []}]}
    merged(base, {"containers": [{"name": "job", "env": [{"name": "A"}]}]})
    assert base == {"containers": [{"name": "job", "env": []}]}
