"""Step `certificate`: our own TLS certificates and the authorities that jobs are told to trust."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.step import Context, Step, aside

if TYPE_CHECKING:
    from cryptography import x509

_SOON: Final = timedelta(days=30)
_FIX: Final = "renew it, then: systemctl restart calls-offloader"


async def look(context: Context) -> Sequence[Finding]:
    """Skipped where there is none."""
    return await aside(lambda: list(_look(context, datetime.now(UTC))))


def _look(context: Context, now: datetime) -> Iterator[Finding]:
    settings = context.settings
    none = True
    if settings.api.tls.enable:
        none = False
        tls = settings.api.tls
        own = urlsplit(settings.jobs.celery.own_url).hostname or ""
        names = (own,) if settings.jobs.api_type == "celery" else (socket.gethostname(),)
        yield from judge_pair("api.http.tls", Path(tls.cert_file), Path(tls.cert_key), names, now)
    worker = settings.worker
    if worker.tls:
        none = False
        names = (urlsplit(worker.url).hostname or worker.name,)
        cert, key = Path(worker.tls_cert_file), Path(worker.tls_key_file)
        yield from judge_pair("worker.tls", cert, key, names, now)
    if settings.jobs.network.ca_cert_file is not None:
        none = False
        yield from judge_authorities(settings.jobs.network.ca_cert_file, now)
    if none:
        why = "neither api.http.tls.enable nor jobs.ca_cert_file is set"
        yield skipped("certificate_none", "certificates", why)


def judge_pair(
    what: str, cert_file: Path, key_file: Path, names: Sequence[str], now: datetime
) -> Iterator[Finding]:
    """A chain and its key. `names`: by which clients reach the service, as far as is known. Blocks."""
    try:
        chain = _read(cert_file)
    except (OSError, ValueError) as error:
        yield _unreadable(what, cert_file, error)
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        mismatch = "KEY_VALUES_MISMATCH" in str(error)
        yield failure(
            "certificate_key_mismatch" if mismatch else "certificate_key_unusable",
            what,
            f"{key_file}: {getattr(error, 'reason', None) or error}",
            cause="the key is of another certificate"
            if mismatch
            else "encrypted, missing, or not readable for this user",
            fix=(
                f"openssl pkey -in {key_file} -pubout | sha256sum",
                f"openssl x509 -in {cert_file} -noout -pubkey | sha256sum   # should be equal",
            ),
        )
        return
    yield from _key_mode(what, key_file)
    leaf = chain[0]
    yield _life(what, cert_file, leaf, now)
    yield from _names(what, leaf, names)
    if len(chain) == 1 and leaf.issuer != leaf.subject:
        yield note(
            "certificate_alone",
            what,
            f"{cert_file}: one certificate, of {leaf.issuer.rfc4514_string()}",
            cause="clients that do not know an authority in between refuse it",
            fix=("append the intermediate certificates to the file",),
        )


def judge_authorities(ca_file: Path, now: datetime) -> Iterator[Finding]:
    """What jobs trust. Blocks."""
    what = "jobs.ca_cert_file"
    try:
        found = _read(ca_file)
    except (OSError, ValueError) as error:
        yield _unreadable(what, ca_file, error)
        return
    yield _life(what, ca_file, min(found, key=lambda each: each.not_valid_after_utc), now)


def _read(path: Path) -> list[x509.Certificate]:
    """Raises OSError, ValueError: no certificate in it."""
    from cryptography import x509  # only where there is one: it is slow to import

    return x509.load_pem_x509_certificates(path.read_bytes())


def _unreadable(what: str, path: Path, error: Exception) -> Finding:
    return failure(
        "certificate_unreadable",
        what,
        f"{path}: {getattr(error, 'strerror', None) or 'no PEM certificate in it'}",
        cause="clients, or jobs, cannot connect by TLS",
        fix=(f"ls -l {path}", f"openssl x509 -in {path} -noout -text"),
    )


def _life(what: str, path: Path, leaf: x509.Certificate, now: datetime) -> Finding:
    end, left = leaf.not_valid_after_utc, leaf.not_valid_after_utc - now
    value = f"{path}: until {end:%Y-%m-%d}"
    data = {"not_after": end.isoformat(), "days_left": left.days}
    if leaf.not_valid_before_utc > now:
        return failure(
            "certificate_not_yet",
            what,
            f"{path}: from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            cause="not valid yet, or this host's clock is behind",
            fix=("timedatectl", _FIX),
            data=data,
        )
    if left <= timedelta(0):
        return failure(
            "certificate_expired",
            what,
            value,
            cause="it has ended: nobody connects any more",
            fix=(_FIX,),
            data=data,
        )
    if left < _SOON:
        return warning(
            "certificate_ends_soon",
            what,
            f"{value}, {left.days} days",
            cause="then nobody connects any more",
            fix=(_FIX,),
            data=data,
        )
    return ok("certificate_valid", what, value, data=data)


def _names(what: str, leaf: x509.Certificate, names: Sequence[str]) -> Iterator[Finding]:
    from cryptography import x509

    try:
        told = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield failure(
            "certificate_no_names",
            what,
            leaf.subject.rfc4514_string(),
            cause="it has no subjectAltName: clients refuse it, whatever its subject says",
            fix=("make it anew with subjectAltName = DNS:HOST",),
        )
        return
    known = told.get_values_for_type(x509.DNSName)
    known += [str(address) for address in told.get_values_for_type(x509.IPAddress)]
    data = {"names": known}
    if any(_covers(known, name) for name in names):
        yield ok("certificate_names", what, ", ".join(known), data=data)
    else:
        yield note(
            "certificate_other_names",
            what,
            ", ".join(known),
            cause=f"this host is {', '.join(names)}: right where clients use one of those names",
            fix=("the plugin's Job service URL has to name one of them",),
            data=data,
        )


def _covers(known: Sequence[str], name: str) -> bool:
    try:
        return str(ipaddress.ip_address(name)) in known
    except ValueError:
        pass
    wild = f"*.{name.partition('.')[2]}"
    return any(each.lower() in (name.lower(), wild.lower()) for each in known)


def _key_mode(what: str, key_file: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if mode & stat.S_IROTH:
        yield warning(
            "certificate_key_readable",
            what,
            f"{key_file}: mode {mode:04o}",
            cause="everybody on this host can read the private key",
            fix=(f"chmod 640 {key_file}", f"chown root:calls-offloader {key_file}"),
        )


CERTIFICATE: Final = Step("certificate", "Certificates", look)
