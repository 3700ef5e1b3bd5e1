"""From the processes' reports to one result."""

from __future__ import annotations

from typing import Any

import pytest

from sfu.loadtest.histogram import Histogram
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.processes import Usage
from sfu.loadtest.result import Measured, make_result
from sfu.loadtest.shared import TIMINGS
from sfu.loadtest.stamp import SCREEN, VOICE, track_number
from sfu.loadtest.table import make_table

A, B = track_number(0, VOICE), track_number(0, SCREEN)
MIB = 1 << 20


@pytest.fixture
def plan() -> LoadPlan:
    return LoadPlan(
        url="http://sfu:8045",
        client_id="c",
        auth_key="very secret key",
        call_prefix="call",
        session_prefix="s",
        users_per_call=3,
        unmuted=1,
        screen_sharing=1,
        duration_s=2,
    )


def report(
    sent: dict[int, int], received: dict[int, dict[str, int]], **more: Any
) -> dict[str, Any]:
    """As it comes out of JSON: numbers of tracks are texts."""
    empty = Histogram().to_json()
    return {
        "joined": 1,
        "failures": {},
        "refused": {},
        "foreign": 0,
        "misdelivered": 0,
        "sent": {str(t): {"packets": n, "bytes": 100 * n} for t, n in sent.items()},
        "received": {str(t): books for t, books in received.items()},
        "delays": empty,
        "lateness": empty,
        "lateness_joining": empty,
        "timings": dict.fromkeys(TIMINGS, empty),
    } | more


def books(packets: int, receivers: int = 1, **more: int) -> dict[str, int]:
    return {
        "packets": packets,
        "bytes": 100 * packets,
        "receivers": receivers,
        "never_heard": 0,
        "duplicates": 0,
        "reordered": 0,
    } | more


def measured(reports: list[dict[str, Any]], **more: Any) -> Measured:
    usages = [
        Usage(cpu_s=c, rss_bytes=m * MIB, udp_drops=0, processes=1)
        for c, m in ((1.0, 50), (2.0, 56), (2.5, 56), (3.0, 57), (3.0, 57))
    ]
    defaults: dict[str, Any] = {
        "reports": reports,
        "settled": True,
        "wall_s": 2.0,
        "server_pid": 1,
        "server_before": usages[0],
        "server_after_joins": usages[1],
        "server_window": (usages[2], usages[3]),
        "server_after": usages[4],
        "tool_cpu_s": [0.5, 0.4],
        "tool_udp_drops": 0,
    }
    return Measured(**(defaults | more))


def test_expected_is_what_was_sent_times_who_should_get_it(plan: LoadPlan) -> None:
    reports = [
        report({A: 100, B: 300}, {}),
        report({}, {A: books(98), B: books(300, duplicates=3)}),
        report({}, {A: books(100), B: books(250, reordered=2)}),
    ]
    media = make_result(plan, measured(reports), preset=None)["media"]
    assert (media["sent"], media["expected"], media["received"]) == (400, 800, 748)
    assert media["loss_percent"] == pytest.approx(100 * 52 / 800)
    assert media["kinds"]["voice"]["lost"] == 2
    assert media["kinds"]["screen"]["lost"] == 50
    assert (media["duplicates"], media["reordered"]) == (3, 2)
    assert media["packets_out_per_s"] == 374


def test_who_never_heard_a_track_has_lost_all_of_it(plan: LoadPlan) -> None:
    reports = [report({A: 100}, {A: books(100, receivers=2, never_heard=1)})]
    media = make_result(plan, measured(reports), preset=None)["media"]
    assert (media["lost"], media["never_heard"]) == (100, 1)


def test_the_servers_cost_is_per_forwarded_packet_and_participant(plan: LoadPlan) -> None:
    reports = [
        report({A: 1000}, {A: books(10_000, receivers=10)}, joined=2),
        report({}, {}, joined=1),
    ]
    server = make_result(plan, measured(reports), preset=None)["server"]
    assert server["cpu_s_per_million_packets"] == 50  # 0.5 s for 10,000
    assert server["packets_per_cpu_s"] == 20_000
    assert server["cores"] == 0.25
    assert server["rss_per_participant_bytes"] == 2 * MIB
    assert server["join_cpu_ms"] == pytest.approx(1000 / 3, abs=0.1)


def test_a_server_elsewhere_has_no_figures(plan: LoadPlan) -> None:
    result = make_result(plan, measured([report({}, {})], server_before=None), preset=None)
    assert "cpu_s" not in result["server"]
    assert "no CPU figures" in make_table(result)


def test_delays_of_all_processes_are_one_distribution(plan: LoadPlan) -> None:
    def delays(*values_ms: int) -> dict[str, Any]:
        histogram = Histogram()
        for value in values_ms:
            histogram.record(value * 1_000_000)
        return histogram.to_json()

    reports = [report({}, {}, delays=delays(1, 1, 1)), report({}, {}, delays=delays(9))]
    delay = make_result(plan, measured(reports), preset=None)["delay_ms"]
    assert (delay["count"], delay["max"]) == (4, 9.0)
    assert delay["p50"] == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tool_cpu_s": [0.5, 1.9]}, "95% of a core"),
        ({"tool_udp_drops": 7}, "7 datagrams did not fit"),
    ],
)
def test_a_tool_that_cannot_keep_up_says_so(
    plan: LoadPlan, changes: dict[str, Any], named: str
) -> None:
    # 50 voice and 166.7 video packets per second for two seconds
    result = make_result(plan, measured([report({A: 100, B: 333}, {})], **changes), preset=None)
    assert len(result["tool"]["bottleneck"]) == 1
    assert named in result["tool"]["bottleneck"][0]
    assert "THE LOAD TOOL ITSELF WAS THE BOTTLENECK" in make_table(result)


@pytest.mark.parametrize("when", ["lateness", "lateness_joining"])
def test_a_tool_that_is_late_says_so(plan: LoadPlan, when: str) -> None:
    late = Histogram()
    late.record(80_000_000)
    reports = [report({A: 100, B: 333}, {}, **{when: late.to_json()})]
    (limit,) = make_result(plan, measured(reports), preset=None)["tool"]["bottleneck"]
    assert "80.0 ms late (p99)" in limit
    assert ("while people joined" in limit) == (when == "lateness_joining")


def test_sending_less_than_planned_is_the_tools_fault_too(plan: LoadPlan) -> None:
    fine = make_result(plan, measured([report({A: 100, B: 333}, {})]), preset=None)
    assert fine["tool"]["bottleneck"] == []
    slow = make_result(plan, measured([report({A: 90, B: 300}, {})]), preset=None)
    assert slow["tool"]["bottleneck"] == ["it sent 390 of 433 packets"]


def test_the_whole_row_is_its_packets_at_the_cost_measured(plan: LoadPlan) -> None:
    reports = [report({A: 1000}, {A: books(10_000, receivers=10)})]
    preset = make_result(plan, measured(reports), preset="5x200-u2")["preset"]
    assert preset["whole_packets_out_per_s"] == 5 * 2 * 50 * 199
    assert preset["cores_at_measured_cost"] == pytest.approx(99_500 * 50e-6, abs=0.01)
    assert "65 % of c6i.xlarge" in preset["published"]


def test_failures_are_summed_by_reason_and_the_key_stays_inside(plan: LoadPlan) -> None:
    reports = [report({}, {}, failures={"no way": 2}), report({}, {}, failures={"no way": 1})]
    result = make_result(plan, measured(reports), preset=None)
    assert result["participants"]["failures"] == {"no way": 3}
    assert "3 × no way" in make_table(result)
    assert "very secret key" not in str(result)
