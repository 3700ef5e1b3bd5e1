"""Step `certificate`: ours has to be valid, named, and belong to its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from offloader.doctor.certificates import look
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context

One = Callable[[Sequence[Finding], str], Finding]
NOW = datetime.now(UTC)
Pair = Callable[..., Awaitable[list[Finding]]]


class Made:
    """A certificate and its key as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())

    def certificate(
        self,
        *,
        days: int = 300,
        since: int = 10,
        names: Sequence[str] = ("calls.example.com",),
        issuer: str = "calls",
        file: str = "cert.pem",
    ) -> Path:
        builder = x509.CertificateBuilder(
            issuer_name=_name(issuer),
            subject_name=_name("calls"),
            public_key=self.key.public_key(),
            serial_number=7,
            not_valid_before=NOW - timedelta(days=since),
            not_valid_after=NOW + timedelta(days=days, hours=1),
        )
        if names:
            told = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(told, critical=False)
        made = builder.sign(self.key, hashes.SHA256())
        path = self._directory / file
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return path

    def key_file(self, *, mode: int = 0o600, password: bytes = b"", other: bool = False) -> Path:
        key = ec.generate_private_key(ec.SECP256R1()) if other else self.key
        closed = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        path = self._directory / "key.pem"
        form = serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, closed))
        path.chmod(mode)
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture
def pair(examined: Callable[..., Context]) -> Pair:
    """What is found of a service that clients reach by `name` and that has this certificate and key."""

    async def find(cert: Path, key: Path, name: str = "calls.example.com") -> list[Finding]:
        context = examined(
            API_HTTP_TLS_ENABLE="true",
            API_HTTP_TLS_CERTFILE=str(cert),
            API_HTTP_TLS_CERTKEY=str(key),
            JOBS_APITYPE="celery",
            JOBS_CELERY_OWNURL=f"https://{name}:4545",
        )
        return list(await look(context))

    return find


async def test_a_valid_pair_of_our_name_is_ok(made: Made, pair: Pair) -> None:
    found = await pair(made.certificate(), made.key_file())
    assert [f.code for f in found] == ["certificate_valid", "certificate_names"]
    assert {f.verdict for f in found} == {Verdict.OK}
    assert found[0].data["days_left"] == 300


@pytest.mark.parametrize(
    ("days", "since", "code", "verdict"),
    [
        (30, 10, "certificate_valid", Verdict.OK),
        (29, 10, "certificate_ends_soon", Verdict.WARNING),
        (-1, 10, "certificate_expired", Verdict.FAILURE),
        (300, -1, "certificate_not_yet", Verdict.FAILURE),
    ],
)
async def test_the_end_is_told_before_clients_meet_it(
    days: int, since: int, code: str, verdict: Verdict, made: Made, one: One, pair: Pair
) -> None:
    assert (
        one(await pair(made.certificate(days=days, since=since), made.key_file()), code).verdict
        is verdict
    )


async def test_a_key_of_another_certificate_is_a_failure(made: Made, one: One, pair: Pair) -> None:
    found = await pair(made.certificate(), made.key_file(other=True))
    assert one(found, "certificate_key_mismatch").verdict is Verdict.FAILURE


async def test_an_encrypted_key_is_a_failure_and_asks_nobody(
    made: Made, one: One, pair: Pair
) -> None:
    found = await pair(made.certificate(), made.key_file(password=b"hidden-word"))
    assert one(found, "certificate_key_unusable").verdict is Verdict.FAILURE


async def test_a_key_that_everybody_can_read_is_a_warning(made: Made, one: One, pair: Pair) -> None:
    found = await pair(made.certificate(), made.key_file(mode=0o644))
    assert one(found, "certificate_key_readable").verdict is Verdict.WARNING


async def test_without_alternative_names_it_is_of_no_use(made: Made, one: One, pair: Pair) -> None:
    found = await pair(made.certificate(names=()), made.key_file())
    assert one(found, "certificate_no_names").verdict is Verdict.FAILURE


async def test_other_names_are_a_note(made: Made, one: One, pair: Pair) -> None:
    found = await pair(made.certificate(names=("other.example.com",)), made.key_file())
    assert one(found, "certificate_other_names").value == "other.example.com"


async def test_a_wildcard_covers_names_below_it(made: Made, one: One, pair: Pair) -> None:
    found = await pair(
        made.certificate(names=("*.example.com",)), made.key_file(), "calls.example.com"
    )
    assert one(found, "certificate_names").verdict is Verdict.OK


async def test_one_certificate_of_another_issuer_may_miss_its_chain(
    made: Made, one: One, pair: Pair
) -> None:
    found = await pair(made.certificate(issuer="middle"), made.key_file())
    assert one(found, "certificate_alone").verdict is Verdict.NOTE


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_without_a_certificate_is_a_failure(
    content: str | None, tmp_path: Path, examined: Callable[..., Context], one: One, pair: Pair
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    assert (
        one(await look(examined(JOBS_CACERTFILE=str(path))), "certificate_unreadable").verdict
        is Verdict.FAILURE
    )
    assert one(await pair(path, path), "certificate_unreadable").verdict is Verdict.FAILURE


async def test_of_several_authorities_the_first_to_end_counts(
    made: Made, tmp_path: Path, examined: Callable[..., Context], one: One
) -> None:
    both = tmp_path / "both.pem"
    files = [made.certificate(days=days, file=f"{days}.pem") for days in (500, 5)]
    both.write_bytes(b"".join(path.read_bytes() for path in files))
    found = await look(examined(JOBS_CACERTFILE=str(both)))
    assert one(found, "certificate_ends_soon").data["days_left"] == 5


async def test_without_any_it_is_skipped(examined: Callable[..., Context], one: One) -> None:
    assert one(await look(examined()), "certificate_none").verdict is Verdict.SKIPPED


async def test_what_the_settings_name_is_looked_at(
    examined: Callable[..., Context], made: Made
) -> None:
    cert, key = str(made.certificate(days=3000)), str(made.key_file())
    context = examined(
        API_HTTP_TLS_ENABLE="true",
        API_HTTP_TLS_CERTFILE=cert,
        API_HTTP_TLS_CERTKEY=key,
        WORKER_TLSCERTFILE=cert,
        WORKER_TLSKEYFILE=key,
        JOBS_CACERTFILE=cert,
    )
    found = await look(context)
    told = [f.what for f in found if f.code == "certificate_valid"]
    assert told == ["api.http.tls", "worker.tls", "jobs.ca_cert_file"]
