"""What the chart's NetworkPolicies let through, asked as a network would be."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from foundation.addresses import _METADATA

Policy = Mapping[str, Any]
SOMEWHERE = "203.0.113.5"


@pytest.fixture(scope="session")
def policy_of(helm: Any, one: Any) -> Callable[..., Policy]:
    """The policy of the pods that run jobs."""

    def policy(suffix: str, *arguments: str) -> Policy:
        objects = helm.objects(
            "offloader",
            "--set=networkPolicy.enabled=true",
            "--show-only=templates/networkpolicy.yaml",
            *arguments,
        )
        spec: Policy = one(objects, f"NetworkPolicy/calls-mattermost-calls-offloader-{suffix}")[
            "spec"
        ]
        return spec

    return policy


def lets_out(policy: Policy, address: str, port: int, protocol: str = "TCP") -> bool:
    """To a host outside of the cluster."""
    return any(_fits(rule, address, port, protocol) for rule in policy["egress"])


def _fits(rule: Mapping[str, Any], address: str, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    if ports and not any((p["port"], p["protocol"]) == (port, protocol) for p in ports):
        return False
    blocks = [peer["ipBlock"] for peer in rule.get("to", ()) if "ipBlock" in peer]
    return "to" not in rule or any(_inside(block, address) for block in blocks)


def _inside(block: Mapping[str, Any], address: str) -> bool:
    ours = ipaddress.ip_address(address)
    held = ours in ipaddress.ip_network(block["cidr"])
    return held and not any(ours in ipaddress.ip_network(n) for n in block.get("except", ()))


def test_jobs_reach_what_they_need_and_nobody_reaches_them(policy_of: Any) -> None:
    policy = policy_of("jobs")
    assert policy["podSelector"]["matchLabels"] == {
        "app": "mattermost-calls-offloader",
        "calls-offloader.instance": "calls-mattermost-calls-offloader",
    }
    assert (policy["policyTypes"], policy["ingress"]) == (["Ingress", "Egress"], [])
    for port, protocol in (
        *((53, "UDP"), (53, "TCP")),
        *((443, "TCP"), (80, "TCP"), (8065, "TCP")),
        *((8443, "UDP"), (8443, "TCP")),
        *((3478, "UDP"), (5349, "TCP")),
    ):
        assert lets_out(policy, SOMEWHERE, port, protocol), (port, protocol)
        assert lets_out(policy, "2001:db8::5", port, protocol), (port, protocol)
    for port in (22, 25, 2375, 5432, 6379, 6443, 10250):
        assert not lets_out(policy, SOMEWHERE, port), port
    assert not lets_out(policy, SOMEWHERE, 443, "UDP")


def test_what_hands_out_credentials_is_out_of_reach(policy_of: Any) -> None:
    policy = policy_of("jobs")
    for address in ("169.254.169.254", "169.254.170.2", "fe80::1", *map(str, _METADATA)):
        for port in (80, 443, 8443):
            assert not lets_out(policy, address, port), address


@pytest.mark.slow
def test_where_jobs_go_can_be_named(policy_of: Any, cases: Any) -> None:
    policy = policy_of("jobs", f"--values={cases['offloader-guarded']}", "--set=nameOverride=")
    assert lets_out(policy, "198.51.100.3", 8443, "UDP")
    assert lets_out(policy, "198.51.100.20", 3478, "UDP")
    assert lets_out(policy, "10.0.0.9", 3128)
    assert lets_out(policy, "10.0.0.8", 4318)
    for address, port in (
        *((SOMEWHERE, 443), (SOMEWHERE, 8443), (SOMEWHERE, 3478)),
        *(("10.0.0.9", 443), ("198.51.100.3", 443), ("198.51.100.20", 5349)),
    ):
        assert not lets_out(policy, address, port), (address, port)
    site = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mattermost"}}}
    assert {"ports": [{"port": 8065, "protocol": "TCP"}], "to": [site]} in policy["egress"]


@pytest.mark.slow
def test_workers_reach_the_same_and_their_broker_and_each_other(policy_of: Any) -> None:
    policy = policy_of("workers", "--set=jobs.apiType=celery,broker.existingSecret=broker")
    for port in (443, 8443, 6380, 5671):
        assert lets_out(policy, SOMEWHERE, port), port
    for port in (22, 4545, 4546, 5432, 6443):
        assert not lets_out(policy, SOMEWHERE, port), port
    inside = [
        (rule["ports"][0]["port"], rule["to"][0]["podSelector"]["matchLabels"])
        for rule in policy["egress"]
        if "podSelector" in rule.get("to", [{}])[0]
    ]
    assert [port for port, _ in inside] == [4545, 4546]
    (door,) = policy["ingress"]
    assert door["ports"] == [{"port": "door", "protocol": "TCP"}]
    assert len(door["from"]) == 2


@pytest.mark.slow
def test_a_store_of_copies_is_reached_where_there_is_one(policy_of: Any) -> None:
    copies = "--set=jobs.copies.url=s3://b,jobs.copies.existingSecret=s"
    assert lets_out(policy_of("jobs", copies), SOMEWHERE, 9000)
    assert not lets_out(policy_of("jobs"), SOMEWHERE, 9000)
