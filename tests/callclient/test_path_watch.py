"""When a path counts as dead, and media as lost."""

from __future__ import annotations

from callclient.path_watch import Advice, PathWatch

S = 1_000_000_000


def _looks(
    watch: PathWatch, *, since_s: float, until_s: float, doubtful_from_s: float, gone: bool = False
) -> dict:
    """Nothing arrives after time 0; ten looks a second. When was what advised, in tenths of a second?"""
    advised: dict[Advice, list[int]] = {advice: [] for advice in Advice}
    for tenth in range(round(since_s * 10), round(until_s * 10)):
        doubtful = tenth >= doubtful_from_s * 10
        advice = watch.look(tenth * S // 10, heard_ns=0, doubtful=doubtful, gone=gone)
        advised[advice].append(tenth)
    return advised


def test_while_something_arrives_nothing_is_done_whatever_ice_thinks() -> None:
    watch = PathWatch(0)
    for tenth in range(100):
        now_ns = tenth * S // 10
        assert watch.look(now_ns, heard_ns=now_ns, doubtful=True) is Advice.NOTHING


def test_silence_is_probed_after_little_more_than_a_ping_and_then_each_second() -> None:
    advised = _looks(PathWatch(0), since_s=0.1, until_s=4, doubtful_from_s=99)
    assert advised[Advice.PROBE] == [12, 22, 32]
    assert advised[Advice.RESTART] == []


def test_a_path_that_ice_doubts_too_is_given_up_after_two_seconds() -> None:
    advised = _looks(PathWatch(0), since_s=0.1, until_s=7, doubtful_from_s=1)
    assert advised[Advice.RESTART] == [20, 60]


def test_a_path_that_was_taken_away_is_given_up_at_once() -> None:
    advised = _looks(PathWatch(0), since_s=0.1, until_s=7, doubtful_from_s=0, gone=True)
    assert advised[Advice.RESTART] == [1, 41]


def test_a_restart_that_failed_comes_again_soon() -> None:
    watch = PathWatch(0)
    assert watch.look(2 * S, heard_ns=0, doubtful=True) is Advice.RESTART
    watch.restart_failed(4 * S)
    advised = _looks(watch, since_s=4.1, until_s=6, doubtful_from_s=0)
    assert advised[Advice.RESTART] == [45]


def test_a_path_that_came_back_starts_anew() -> None:
    watch = PathWatch(0)
    assert watch.look(2 * S, heard_ns=0, doubtful=True) is Advice.RESTART
    assert watch.look(3 * S, heard_ns=3 * S, doubtful=False) is Advice.NOTHING
    assert watch.look(4 * S, heard_ns=3 * S, doubtful=False) is Advice.NOTHING
    assert watch.look(3 * S + 12 * S // 10, heard_ns=3 * S, doubtful=False) is Advice.PROBE


def test_media_is_lost_since_the_last_packet_after_two_seconds_until_the_next() -> None:
    watch = PathWatch(0)
    heard_ns = S // 2
    watch.look(2 * S, heard_ns=heard_ns, doubtful=False)
    assert watch.lost_since_ns is None
    for now_ns in (heard_ns + 2 * S, 30 * S):
        watch.look(now_ns, heard_ns=heard_ns, doubtful=False)
        assert watch.lost_since_ns == heard_ns
    watch.look(31 * S, heard_ns=31 * S - 1, doubtful=False)
    assert watch.lost_since_ns is None


def test_where_nothing_has_come_yet_the_beginning_counts() -> None:
    watch = PathWatch(7 * S)
    assert watch.look(8 * S, heard_ns=0, doubtful=False) is Advice.NOTHING
    watch.look(9 * S, heard_ns=0, doubtful=False)
    assert watch.lost_since_ns == 7 * S
