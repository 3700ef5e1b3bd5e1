"""DTLS-SRTP between two ends of ours, over a wire that a test may spoil."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from rtc.certificates import Certificate, CertificateSource
from rtc.dtls import DtlsTransport, RemoteFingerprint, split_records
from rtc.rtp import build_rtp
from rtc.srtp import PROFILES, SrtpProfile

PACKET = build_rtp(b"speech", payload_type=111, sequence=1, timestamp=0, ssrc=5)
HELLO_VERIFY_REQUEST, CLIENT_HELLO = 3, 1

Wire = Callable[[bytes, int], list[bytes]]
"""(datagram, its number from that side, from 0) -> what arrives, each a little after the one before."""


def perfect(datagram: bytes, number: int) -> list[bytes]:
    return [datagram]


@dataclass
class End:
    certificate: Certificate
    wire: Wire = perfect
    other: End | None = None
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dtls = DtlsTransport(
            self.certificate,
            send=self._send,
            on_connected=self.connected.set,
            on_failed=self._failed,
            on_application_data=self.data.append,
            on_closed=self.over.set,
        )

    def _send(self, datagram: bytes) -> None:
        assert self.other is not None
        number = len(self.sent)
        self.sent.append(datagram)
        for place, arriving in enumerate(self.wire(datagram, number)):
            delay_s = place * 0.002
            asyncio.get_running_loop().call_later(delay_s, self.other.dtls.receive, arriving)

    def _failed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.over.set()


@dataclass
class Pair:
    client: End
    server: End

    def start(self, *, client_sees: str = "", algorithm: str = "sha-256") -> None:
        self.client.other, self.server.other = self.server, self.client
        seen = client_sees or self.server.certificate.fingerprint
        self.server.dtls.start(
            role="server",
            remote=RemoteFingerprint("sha-256", self.client.certificate.fingerprint),
        )
        self.client.dtls.start(role="client", remote=RemoteFingerprint(algorithm, seen))

    async def both_connected(self) -> None:
        async with asyncio.timeout(25):
            await self.client.connected.wait()
            await self.server.connected.wait()

    def close(self) -> None:
        self.client.dtls.close()
        self.server.dtls.close()


def pair(
    client: Certificate | None = None,
    server: Certificate | None = None,
    *,
    to_server: Wire = perfect,
    to_client: Wire = perfect,
) -> Pair:
    return Pair(End(client or Certificate(), to_server), End(server or Certificate(), to_client))


async def connected(**ends: object) -> Pair:
    made = pair(**ends)
    made.start()
    await made.both_connected()
    return made


def handshake_types(datagrams: list[bytes]) -> list[int]:
    """Of unencrypted handshake records."""
    return [d[13] for d in datagrams if d[0] == 22 and d[3:5] == b"\0\0"]


def media_passes(sender: End, receiver: End) -> bool:
    assert sender.dtls.outbound is not None
    assert receiver.dtls.inbound is not None
    protected = sender.dtls.outbound.protect_rtp(PACKET)
    return protected is not None and receiver.dtls.inbound.unprotect_rtp(protected) == PACKET


async def test_a_server_has_the_client_prove_its_address_first() -> None:
    both = await connected()
    assert handshake_types(both.server.sent)[0] == HELLO_VERIFY_REQUEST
    assert handshake_types(both.client.sent)[:2] == [CLIENT_HELLO, CLIENT_HELLO]
    assert media_passes(both.client, both.server)
    assert media_passes(both.server, both.client)
    both.close()


async def test_the_proof_can_be_left_out() -> None:
    both = await connected(server=Certificate(hello_verify=False))
    assert HELLO_VERIFY_REQUEST not in handshake_types(both.server.sent)
    assert handshake_types(both.client.sent).count(CLIENT_HELLO) == 1
    both.close()


async def test_the_proof_of_one_client_is_none_for_another() -> None:
    shared = Certificate()
    first, second = pair(server=shared), pair(server=shared)
    taken: list[bytes] = []

    def keep_hellos(datagram: bytes, number: int) -> list[bytes]:
        taken.append(datagram)
        return [datagram]

    first.client.wire = keep_hellos
    first.start()
    await first.both_connected()
    second.client.wire = lambda datagram, number: [datagram] if number == 0 else [taken[1]]
    second.start()
    async with asyncio.timeout(25):
        await second.server.over.wait()
    assert handshake_types(second.server.sent) == [HELLO_VERIFY_REQUEST]
    assert "cookie mismatch" in second.server.reasons[0]
    first.close()
    second.close()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name.decode())
@pytest.mark.parametrize("limited", ["client", "server"])
async def test_each_protection_profile_is_used_when_the_other_side_has_only_that(
    profile: SrtpProfile, limited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rtc.certificates.PROFILES", (profile,))
        certificate = Certificate()
    both = await connected(**{limited: certificate})
    assert both.client.dtls._ssl.get_selected_srtp_profile() == profile.name
    assert media_passes(both.client, both.server)
    assert media_passes(both.server, both.client)
    both.close()


async def test_without_a_common_profile_the_handshake_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rtc.certificates.PROFILES", PROFILES[:1])
        one = Certificate()
        patch.setattr("rtc.certificates.PROFILES", PROFILES[1:2])
        other = Certificate()
    both = pair(one, other)
    both.start()
    async with asyncio.timeout(25):
        await both.client.over.wait()
    assert both.client.reasons == ["DTLS handshake failed: no common SRTP profile"]
    assert both.client.dtls.outbound is None
    both.close()


async def test_any_one_lost_datagram_of_the_handshake_is_repeated() -> None:
    """All cases at once: OpenSSL waits a second of real time for each."""

    def losing(which: int) -> Wire:
        return lambda datagram, number: [] if number == which else [datagram]

    runs = [pair(to_server=losing(which)) for which in range(4)]
    runs += [pair(to_client=losing(which)) for which in range(4)]
    for run in runs:
        run.start()
    await asyncio.gather(*(run.both_connected() for run in runs))
    for run in runs:
        assert media_passes(run.client, run.server)
        run.close()


async def test_reordered_doubled_and_junk_datagrams_do_no_harm() -> None:
    dice = random.Random(7)

    def spoil(datagram: bytes, number: int) -> list[bytes]:
        arriving = [
            datagram,
            datagram,
            bytes([dice.randrange(20, 64)]) + dice.randbytes(dice.randrange(100)),
            datagram[: dice.randrange(1, len(datagram))],
            datagram[:11] + b"\xff\xff" + datagram[13:],  # says to be longer than it is
        ]
        dice.shuffle(arriving)
        return arriving

    runs = [pair(to_server=spoil, to_client=spoil) for _ in range(20)]
    for run in runs:
        run.start()
    await asyncio.gather(*(run.both_connected() for run in runs))
    for run in runs:
        assert not run.client.reasons + run.server.reasons
        assert media_passes(run.client, run.server)
        run.close()


@pytest.mark.looptime
async def test_junk_on_a_connection_leaves_it_as_it_is() -> None:
    both = await connected()
    dice = random.Random(3)
    for _ in range(500):
        kind = dice.choice([20, 21, 22, 23, 24, 25, 26, 63])
        head = bytes([kind]) + dice.choice([b"\xfe\xfd", b"\xfe\xff", b"\x03\x03"])
        body = dice.randbytes(dice.randrange(60))
        epoch = dice.choice([0, 1, 2]).to_bytes(2, "big")
        size = len(body).to_bytes(2, "big")
        both.server.dtls.receive(head + epoch + dice.randbytes(6) + size + body)
    both.client.dtls.send_application_data(b"still here")
    await asyncio.sleep(0.01)
    assert both.server.data == [b"still here"]
    assert not both.server.over.is_set()
    both.close()


@pytest.mark.parametrize(
    ("algorithm", "name", "accepted"),
    [
        ("sha-256", "sha256", True),
        ("SHA-256", "sha256", True),
        ("sha-384", "sha384", True),
        ("sha-512", "sha512", True),
        ("sha-1", "sha1", False),
        ("md5", "md5", False),
        ("shake_128", "sha256", False),
        ("crc32", "sha256", False),
    ],
)
async def test_fingerprints_are_taken_in_sha_2_only(
    algorithm: str, name: str, accepted: bool
) -> None:
    both = pair()
    der = both.server.dtls._ssl.get_certificate(as_cryptography=True).public_bytes(
        serialization.Encoding.DER
    )
    digest = hashlib.new(name, der).hexdigest()
    value = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    both.start(client_sees=value, algorithm=algorithm)
    async with asyncio.timeout(25):
        await (both.client.connected if accepted else both.client.over).wait()
    assert both.client.dtls.connected is accepted
    assert [("fingerprint" in reason) for reason in both.client.reasons] == [True] * (not accepted)
    both.close()


async def test_a_fingerprint_of_other_letters_is_simply_wrong() -> None:
    both = pair()
    both.start(client_sees="ÄÖ:Ü€")
    async with asyncio.timeout(25):
        await both.client.over.wait()
    assert "fingerprint" in both.client.reasons[0]
    both.close()


async def test_a_certificate_that_needs_many_datagrams_is_taken() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "big")])
    now = datetime.now(UTC)
    alternatives = [x509.DNSName(f"{number:04}.{'x' * 40}.example") for number in range(150)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now - timedelta(days=300))  # nobody asks for dates in WebRTC
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    big = Certificate()
    big.context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
    big.context.use_certificate(certificate)
    big.context.use_privatekey(key)
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    big.fingerprint = ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper()
    both = await connected(server=big)
    assert len(both.server.sent) > 6
    assert max(map(len, both.server.sent)) <= 1200
    assert media_passes(both.server, both.client)
    both.close()


@pytest.mark.looptime
async def test_a_second_handshake_is_refused_and_the_first_goes_on() -> None:
    both = await connected()
    keys = both.client.dtls.outbound
    with pytest.raises(SSL.Error):
        both.client.dtls._ssl.renegotiate()
    assert both.client.dtls.outbound is keys
    both.client.dtls.send_application_data(b"on")
    await asyncio.sleep(0.01)
    assert both.server.data == [b"on"]
    both.close()


async def test_a_goodbye_is_told_once_and_takes_the_keys() -> None:
    both = await connected()
    both.client.dtls.close()
    async with asyncio.timeout(25):
        await both.server.over.wait()
    assert both.server.reasons == []
    assert both.server.dtls.inbound is None
    both.server.dtls.receive(both.client.sent[-1])
    both.server.dtls.send_application_data(b"into the void")
    both.server.dtls.close()
    assert both.client.dtls.connected  # was; its keys are gone
    assert both.client.dtls.outbound is None


@pytest.mark.looptime
async def test_what_is_too_long_for_a_record_is_left_out() -> None:
    both = await connected()
    both.client.dtls.send_application_data(bytes(40_000))
    both.client.dtls.send_application_data(b"next")
    await asyncio.sleep(0.01)
    assert both.server.data == [b"next"]
    both.close()


async def test_what_comes_before_the_start_waits_in_bounds() -> None:
    both = pair()
    both.client.other, both.server.other = both.server, both.client
    both.client.dtls.start(
        role="client", remote=RemoteFingerprint("sha-256", both.server.certificate.fingerprint)
    )
    for _ in range(100):
        both.server.dtls.receive(both.client.sent[0])
    await asyncio.sleep(0)
    both.server.dtls.start(
        role="server", remote=RemoteFingerprint("sha-256", both.client.certificate.fingerprint)
    )
    await both.both_connected()
    assert len(both.server.sent) < 30
    both.close()


@pytest.mark.looptime
async def test_the_longest_record_arrives_whole() -> None:
    both = await connected()
    both.client.dtls.send_application_data(bytes(16_384))
    both.client.dtls.send_application_data(b"next")
    await asyncio.sleep(0.01)
    assert both.server.data == [bytes(16_384), b"next"]
    both.close()


@pytest.mark.parametrize("size", [1, 60, 1150])
async def test_a_record_arrives_alone_or_with_others_and_none_is_left(size: int) -> None:
    both = await connected()
    caught: list[bytes] = []
    both.client.wire = lambda datagram, number: caught.append(datagram) or []
    sent = [bytes([number]) * size for number in range(6)]
    for data in sent:
        both.client.dtls.send_application_data(data)
    assert len(caught) == 6
    both.server.dtls.receive(caught[0])
    both.server.dtls.receive(caught[1] + caught[2])
    assert both.server.data == sent[:3]
    forged = bytearray(caught[3])
    forged[-1] ^= 1
    both.server.dtls.receive(bytes(forged))
    assert both.server.data == sent[:3]
    both.server.dtls.receive(caught[3])
    both.server.dtls.receive(caught[4] + caught[5][:-1])
    assert both.server.data == sent[:5]
    both.close()


@pytest.mark.looptime
async def test_a_message_costs_no_look_into_the_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one is an exception, which costs more than the encryption."""
    both = await connected()
    looks: list[str] = []
    for name in ("recv", "bio_read"):
        look = getattr(SSL.Connection, name)

        def counted(self: object, size: int, look=look, name=name) -> bytes:
            looks.append(name)
            return look(self, size)

        monkeypatch.setattr(SSL.Connection, name, counted)
    both.client.dtls.send_application_data(b"ping")
    await asyncio.sleep(0.01)
    assert both.server.data == [b"ping"]
    assert looks == ["bio_read", "recv"]
    both.close()


@pytest.mark.parametrize("flight", [b"", b"\x16", bytes(13), b"\x16\xfe\xfd" + b"\xff" * 40])
def test_records_of_any_bytes_are_cut_without_a_fuss(flight: bytes) -> None:
    assert sum(map(len, split_records(flight))) <= len(flight)


def test_a_process_that_runs_for_long_never_shows_an_old_certificate() -> None:
    now_s = 0.0
    source = CertificateSource(clock=lambda: now_s)
    first = source.current()
    now_s = 23 * 3600.0
    assert source.current() is first
    now_s = 25 * 3600.0
    second = source.current()
    assert second is not first
    assert second.fingerprint != first.fingerprint
