"""DTLS: a stranger's datagrams at a server that waits, and real handshakes that somebody on the way spoils.

OpenSSL reads the records; what is ours is how its answers, timers and errors are handled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from rtc.certificates import Certificate
from rtc.dtls import DtlsTransport, RemoteFingerprint, is_lone_application_record, split_records
from tests.fuzz.loop import LOOP
from tests.fuzz.target import Target, joined, pieces

_OPEN, _CAREFUL = Certificate(hello_verify=False), Certificate()
_MTU_BYTES = 1200
_MOST_DATAGRAMS = 200
_MOST_SENT_PER_RECEIVED = 16


class _End:
    def __init__(self, certificate: Certificate, role: Any, outbox: list[bytes]) -> None:
        self.said: list[str] = []
        self.data: list[bytes] = []
        self.dtls = DtlsTransport(
            certificate,
            send=outbox.append,
            on_connected=lambda: self.said.append("connected"),
            on_failed=lambda reason: self.said.append("failed"),
            on_application_data=self.data.append,
            on_closed=lambda: self.said.append("closed"),
        )
        self._role = role

    def start(self) -> None:
        remote = RemoteFingerprint("sha-256", _OPEN.fingerprint)
        self.dtls.start(role=self._role, remote=remote)

    def receive(self, datagram: bytes) -> None:
        """As `rtc.peer` sorts what comes (RFC 7983 section 7)."""
        if datagram and 20 <= datagram[0] <= 63:
            self.dtls.receive(datagram)

    def check(self) -> None:
        assert self.said in (
            [],
            ["connected"],
            ["failed"],
            ["connected", "closed"],
        ), self.said


def _stranger(certificate: Certificate, data: bytes) -> None:
    """All before the handshake, or in it, at a server; then at a client."""
    for role in ("server", "client"):
        sent: list[bytes] = []
        end = _End(certificate, role, sent)
        if data[:1] > b"\x7f":
            end.start()
        received = 0
        for datagram in pieces(data[1:], _MOST_DATAGRAMS):
            end.receive(datagram)
            received += 1
        if not end.dtls.started:
            assert len(end.dtls._early) <= 8
            end.start()
        assert len(sent) <= _MOST_SENT_PER_RECEIVED * (received + 2)
        end.check()
        assert not end.data
        end.dtls.close()


def _spoiled(data: bytes) -> None:
    """Two ends; each edit of the input is made to one datagram between them."""
    to_server: list[bytes] = []
    to_client: list[bytes] = []
    ends = _End(_OPEN, "client", to_server), _End(_OPEN, "server", to_client)
    for end in ends:
        end.start()
    edits = deque(pieces(data, _MOST_DATAGRAMS))
    carried = 0
    while (to_server or to_client) and carried < _MOST_DATAGRAMS:
        for box, end in ((to_server, ends[1]), (to_client, ends[0])):
            datagrams, box[:] = box[:], []
            for datagram in datagrams:
                carried += 1
                for arriving in _edited(datagram, edits.popleft() if edits else b""):
                    end.receive(arriving)
    if all("connected" in end.said for end in ends):
        ends[0].dtls.send_application_data(data[:100] or b"x")
        for datagram in to_server:
            for arriving in _edited(datagram, edits.popleft() if edits else b""):
                ends[1].receive(arriving)
    for end in ends:
        end.check()
        end.dtls.close()


def _edited(datagram: bytes, edit: bytes) -> list[bytes]:
    """`edit`: what to do, where (2 bytes), with what."""
    if len(edit) < 3:
        return [datagram]
    at, text = int.from_bytes(edit[1:3], "big") % (len(datagram) + 1), edit[3:]
    match edit[0] & 7:
        case 0:
            return []
        case 1:
            return [datagram, datagram]
        case 2:
            return [datagram[:at]]
        case 3:
            return [datagram[:at] + text + datagram[at:]]
        case 4:
            return [text, datagram]
        case 5:
            return [datagram[at:], datagram[:at]]
        case _:
            return [datagram[:at] + text + datagram[at + len(text) :]]


async def _both(data: bytes) -> None:
    _stranger(_OPEN if data[:1] < b"\xc0" else _CAREFUL, data)
    _spoiled(data)


def _run(data: bytes) -> None:
    is_lone_application_record(data)
    cut = split_records(data)
    assert b"".join(cut) == data[: sum(map(len, cut))]
    assert all(len(part) <= max(_MTU_BYTES, 13 + 0xFFFF) for part in cut)
    LOOP.run_until_complete(_both(data))


def _flights() -> list[bytes]:
    """Of a handshake without loss, in order."""
    seen: list[bytes] = []

    async def shake() -> None:
        boxes: list[list[bytes]] = [[], []]
        ends = _End(_OPEN, "client", boxes[0]), _End(_OPEN, "server", boxes[1])
        for end in ends:
            end.start()
        while any(boxes):
            for box, end in zip(boxes, reversed(ends), strict=True):
                datagrams, box[:] = box[:], []
                for datagram in datagrams:
                    seen.append(datagram)
                    end.receive(datagram)
        for end in ends:
            end.dtls.close()

    LOOP.run_until_complete(shake())
    return seen


def _seeds() -> Iterable[bytes]:
    flights = _flights()
    for first in (b"\x00", b"\x80", b"\xff"):
        yield first + joined(flights[:1])
        yield first + joined(flights)
    alert, data = (
        b"\x15\xfe\xfd\0\0\0\0\0\0\0\x09\0\x02\x02\x28",
        b"\x17\xfe\xfd\0\1\0\0\0\0\0\1\0\4abcd",
    )
    yield b"\x80" + joined([alert, data])
    yield joined([b"\x00\0\0", b"\x01\0\0", b"\x02\0\x20"])
    yield joined([b"", b"\x06\0\x0e\x01", b"\x03\0\x19xyz", b"", b"\x04\0\0" + alert])
    yield joined([b""] * 8 + [b"\x05\0\x10", b"\x06\0\x20\xff\xff"])
    yield flights[0] + alert + data


TARGET = Target(
    parses="DTLS at the door and through whole handshakes (OpenSSL), cutting of flights into datagrams",
    run=_run,
    seeds=_seeds,
    tokens=(
        b"\x16\xfe\xff\x00\x00",
        b"\x16\xfe\xfd\x00\x00",
        b"\x17\xfe\xfd\x00\x01",
        b"\x15\xfe\xfd\x00\x00",
        b"\x14\xfe\xfd\x00\x00",
        b"\x00\x0e\x00",
        b"\x00\x0a\x00",
        b"\x00\x0d\x00",
    ),
    max_bytes=8192,
    ci_inputs=400,
)
