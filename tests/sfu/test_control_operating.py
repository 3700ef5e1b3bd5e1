"""Routes for who operates the SFU: metrics, health, drain (rtcd.md 1.6, trap 36)."""

from __future__ import annotations

from typing import Any

import pytest

from sfu.messages import Close, Join, Leave, Rtc, RtcMessage, RtcType, Vad


def join(session_id: str = "s1", call_id: str = "call") -> Join:
    return Join(call_id, "user", session_id, "channel")


def mute(session_id: str) -> Rtc:
    return Rtc(RtcMessage(RtcType.MUTE, session_id))


async def metrics(plane) -> dict[str, float]:
    """Samples of ours by name and labels, as they are written."""
    response = await plane.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line.rpartition(" ") for line in response.text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines if name.startswith("rtcd_ws")}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_metrics_are_given_by_any_method_without_authentication(plane, method: str) -> None:
    response = await plane.http.request(method, "/metrics")
    assert response.status_code == 200
    assert "rtcd_process_cpu_seconds_total" in response.text


async def test_the_numbers_of_the_media_plane_are_added_to_our_own(plane) -> None:
    plane.media.metrics.session_opened("plugin")
    text = (await plane.http.get("/metrics")).text
    assert 'rtcd_rtc_sessions_total{groupID="plugin"} 1.0' in text


async def test_connections_are_counted_by_client_while_they_are_open(plane) -> None:
    socket = await plane.connect()
    await plane.connect()
    await plane.connect("other")
    found = await metrics(plane)
    assert found['rtcd_ws_connections_total{clientID="plugin"}'] == 2
    assert found['rtcd_ws_connections_total{clientID="other"}'] == 1
    await plane.disconnect(socket)
    assert (await metrics(plane))['rtcd_ws_connections_total{clientID="plugin"}'] == 1


async def test_messages_are_counted_by_type_and_direction_hello_and_close_left_out(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    socket.send(mute("s1"))
    socket.send(mute("s1"))
    assert await socket.settle() == []
    answer = RtcMessage(RtcType.VOICE_ON, "s1")
    plane.media.outlets["s1"](Vad(answer))
    plane.media.outlets["s1"](Rtc(answer))
    socket.send(Leave("s1"))
    assert [await socket.receive() for _ in range(3)] == [Vad(answer), Rtc(answer), Close("s1")]
    found = await metrics(plane)

    def count(kind: str, direction: str) -> float | None:
        labels = f'clientID="plugin",direction="{direction}",type="{kind}"'
        return found.get(f"rtcd_ws_messages_total{{{labels}}}")

    assert (count("join", "in"), count("rtc", "in"), count("leave", "in")) == (2, 2, 1)
    assert (count("rtc", "out"), count("vad", "out")) == (1, 1)
    assert (count("hello", "out"), count("close", "out")) == (None, None)


async def test_what_is_dropped_and_refused_is_counted_by_reason(plane) -> None:
    socket = await plane.connect()
    socket.send("text")
    socket.send(b"\xc1")
    socket.send(mute("nobody"))
    await socket.settle()  # ends with a join that cannot be
    found = await metrics(plane)
    for name, count in (
        ('rtcd_ws_messages_dropped_total{clientID="plugin",reason="invalid"}', 2),
        ('rtcd_ws_messages_dropped_total{clientID="plugin",reason="unknown_session"}', 1),
        ('rtcd_ws_joins_refused_total{clientID="plugin",reason="invalid"}', 1),
    ):
        assert found[name] == count


# floods


async def test_a_session_that_floods_loses_messages_and_no_other_does(start_plane) -> None:
    plane = await start_plane(floods={"session_messages_per_s": 2})
    socket = await plane.connect()
    for session_id in ("s1", "s2"):
        socket.send(join(session_id))
    for _ in range(50):
        socket.send(mute("s1"))
    socket.send(mute("s2"))
    assert await socket.settle() == []
    handled = [message.session_id for message in plane.media.handled]
    assert (handled.count("s1"), handled.count("s2")) == (20, 1)
    found = await metrics(plane)
    assert found['rtcd_ws_messages_dropped_total{clientID="plugin",reason="flood"}'] == 30


async def test_a_leave_gets_through_a_flood(start_plane) -> None:
    plane = await start_plane(floods={"session_messages_per_s": 1})
    socket = await plane.connect()
    socket.send(join("s1"))
    for _ in range(50):
        socket.send(mute("s1"))
    socket.send(Leave("s1"))
    assert await socket.receive() == Close("s1")


async def test_joins_beyond_the_limit_are_answered_by_close(start_plane) -> None:
    plane = await start_plane(floods={"client_joins_per_s": 1})
    socket, other = await plane.connect(), await plane.connect("other")
    for number in range(12):
        socket.send(join(f"s{number}"))
    assert [await socket.receive() for _ in range(2)] == [Close("s10"), Close("s11")]
    other.send(join("t1"))
    assert await other.settle() == []
    found = await metrics(plane)
    assert found['rtcd_ws_joins_refused_total{clientID="plugin",reason="flood"}'] == 2


async def test_a_flood_of_nonsense_does_not_flood_the_log(plane, capsys) -> None:
    socket = await plane.connect()
    for _ in range(3000):
        socket.send(b"\xc1")
    assert await socket.settle() == []
    lines = [line for line in capsys.readouterr().out.splitlines() if "ws.message_dropped" in line]
    assert 0 < len(lines) <= 100


# health and drain


async def test_a_server_is_healthy_and_ready(plane) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        response = await plane.http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": status})
    status = (await plane.http.get("/drain")).json()
    assert status == {
        **{"draining": False, "stopping": False, "refuse": "none"},
        **{"sessions": 0, "secondsLeft": None},
    }


async def test_a_drained_server_is_healthy_but_not_ready_until_that_is_taken_back(plane) -> None:
    response = await plane.http.post("/drain", headers=plane.admin())
    assert (response.status_code, response.json()["draining"]) == (200, True)
    assert (await plane.http.get("/healthz")).status_code == 200
    ready = await plane.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    response = await plane.http.delete("/drain", headers=plane.admin())
    assert (response.status_code, response.json()["draining"]) == (200, False)
    assert (await plane.http.get("/readyz")).status_code == 200


async def test_a_server_without_all_its_media_processes_is_not_ready(plane) -> None:
    plane.media.missing = 1
    ready = await plane.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "processes missing", "missing": 1})
    assert (await plane.http.get("/healthz")).status_code == 200
    plane.media.missing = 0
    assert (await plane.http.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("body", "refuse"),
    [(None, "calls"), ({}, "calls"), ({"refuse": "joins"}, "joins"), ({"refuse": "none"}, "none")],
)
async def test_the_admin_says_what_a_drain_refuses(plane, body: Any, refuse: str) -> None:
    response = await plane.http.post("/drain", json=body, headers=plane.admin())
    assert response.json()["refuse"] == refuse
    assert (await plane.http.get("/drain")).json()["refuse"] == refuse


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"refuse":"all"}', b'{"refuse":1}', b"[" * 900])
@pytest.mark.documents("a-drain-request-of-another-form")
async def test_another_wish_is_400(plane, body: bytes, documented) -> None:
    response = await plane.http.post("/drain", content=body, headers=plane.admin())
    assert (response.status_code, response.json()["code"]) == (400, "400")
    documented("a-drain-request-of-another-form", response.json()["error"])
    assert not (await plane.http.get("/drain")).json()["draining"]


@pytest.mark.documents("a-drain-request-of-another-form/2")
async def test_a_wish_that_is_too_long_is_413(plane, documented) -> None:
    response = await plane.http.post("/drain", content=b" " * 1025, headers=plane.admin())
    assert response.status_code == 413
    documented("a-drain-request-of-another-form/2", response.json()["error"])


@pytest.mark.documents("drain-of-an-sfu-by-somebody-else")
async def test_only_the_admin_may_drain(plane, documented) -> None:
    for headers, status in (({}, 401), (plane.basic(), 403), (plane.basic("plugin", "x"), 401)):
        for method in ("POST", "DELETE"):
            response = await plane.http.request(method, "/drain", headers=headers)
            assert (response.status_code, response.json()["code"]) == (status, str(status))
            if status == 403:
                documented("drain-of-an-sfu-by-somebody-else", response.json()["error"])
    assert not (await plane.http.get("/drain")).json()["draining"]


async def test_a_join_that_a_drain_refuses_is_answered_by_close(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    await plane.http.post("/drain", headers=plane.admin())
    socket.send(join("s2"))  # into the call that runs here: only this server can take it
    socket.send(join("s3", call_id="new"))
    assert await socket.receive() == Close("s3")
    assert set(plane.media.configs) == {"s1", "s2"}
    await plane.http.post("/drain", json={"refuse": "joins"}, headers=plane.admin())
    socket.send(join("s4"))
    assert await socket.receive() == Close("s4")
    await plane.http.delete("/drain", headers=plane.admin())
    socket.send(join("s5", call_id="new"))
    assert await socket.settle() == []
    assert "s5" in plane.media.configs
    found = await metrics(plane)
    assert found['rtcd_ws_joins_refused_total{clientID="plugin",reason="drain"}'] == 2
