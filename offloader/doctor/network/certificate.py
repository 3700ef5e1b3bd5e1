"""Step `tls`: would a job trust the site's certificate, and for how long still?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network.way import ANSWER_S, NO_SITE, Way, reason_of
from offloader.doctor.step import Context, Step

SOON_DAYS: Final = 21
_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN_ISSUER: Final = frozenset({2, 20, 21, 27})
_SELF_SIGNED: Final = frozenset({18, 19})
_WRONG_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_* of openssl-verification-options(1)."""


async def shake_hands(context: Context) -> Sequence[Finding]:
    """Verify the chain as jobs do; look at the certificate even where it does not hold."""
    way = Way.of(context)
    if way is None:
        return [skipped("no_site_url", "Mattermost", NO_SITE)]
    if not way.tls:
        return [
            note(
                "tls_none",
                way.url,
                "http",
                cause="tokens and recordings go over the network as plain text; fine on one host only",
            )
        ]
    try:
        trusted = way.context()
    except OSError as error:
        return [
            failure(
                "ca_file_unusable",
                "CA file",
                str(error),
                cause="jobs would be given a CA file that they cannot use",
                fix=('jobs.ca_cert_file = "/path/to/ca.pem"   # PEM, one or more certificates',),
            )
        ]
    try:
        version, seen = await _handshake(way, trusted)
    except ssl.SSLCertVerificationError as error:
        return [await _distrusted(way, error)]
    except ssl.SSLError as error:
        return [_no_tls(way, error)]
    except OSError as error:
        return [skipped("tls_no_connection", way.place, f"{reason_of(error)}: see tcp")]
    return [_validity(way, version, seen, now=datetime.now(UTC))]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the certificate says."""

    names: tuple[str, ...]
    issuer: str
    begins: datetime
    ends: datetime

    @classmethod
    def read(cls, der: bytes) -> Seen:
        from cryptography import x509  # only where there is a certificate: it is slow to import

        certificate = x509.load_der_x509_certificate(der)
        try:
            entry = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = tuple(str(name.value) for name in entry.value)
        except x509.ExtensionNotFound:
            names = ()
        return cls(
            names,
            certificate.issuer.rfc4514_string(),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )


async def _handshake(way: Way, context: ssl.SSLContext) -> tuple[str, Seen]:
    """TLS version and certificate. Raises OSError, of which SSLError is one."""
    async with way.stream() as (_, writer), asyncio.timeout(ANSWER_S):
        await writer.start_tls(context, server_hostname=way.host)
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        return tls.version() or "", Seen.read(der or b"")


async def _distrusted(way: Way, error: ssl.SSLCertVerificationError) -> Finding:
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # only to look at it: nothing is said over it
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    try:
        _, seen = await _handshake(way, blind)
    except (OSError, ValueError):
        seen = Seen((), "", datetime.now(UTC), datetime.now(UTC))
    data = {"names": list(seen.names), "issuer": seen.issuer, "ends": _day(seen.ends)}
    code = error.verify_code
    if code == _EXPIRED:
        return failure(
            "tls_expired",
            way.place,
            f"ended on {_day(seen.ends)}",
            cause="it (or one above it) is no longer valid; or this host's clock is ahead: see site-clock",
            fix=("renew the certificate of the web server in front of Mattermost, and reload it",),
            data=data,
        )
    if code == _NOT_YET:
        return failure(
            "tls_not_yet_valid",
            way.place,
            f"begins on {_day(seen.begins)}",
            cause="the certificate is not valid yet; most often this host's clock is behind",
            fix=("timedatectl set-ntp true",),
            data=data,
        )
    if code in _WRONG_NAME:
        names = ", ".join(seen.names) or "no name at all"
        return failure(
            "tls_wrong_name",
            way.place,
            f"is for {names}",
            cause=f"the certificate does not name {way.host}",
            fix=(
                f"get a certificate that names {way.host}",
                f'jobs.site_url_overrides = {{"{way.given_url}" = "https://{_plain_name(seen)}"}}',
            ),
            data=data,
        )
    if code in _UNKNOWN_ISSUER | _SELF_SIGNED:
        return _unknown_issuer(way, seen, error, data)
    return failure(
        "tls_distrusted",
        way.place,
        error.verify_message,
        cause="OpenSSL does not accept the chain that the server sends",
        fix=(f"openssl s_client -connect {way.place} -servername {way.host} -showcerts",),
        data=data,
    )


def _unknown_issuer(
    way: Way, seen: Seen, error: ssl.SSLCertVerificationError, data: Mapping[str, object]
) -> Finding:
    if way.ca_file is not None:
        cause = (
            f"its issuer is neither an authority of this system nor in {way.ca_file}; "
            "or the server does not send the certificates between"
        )
        fix = f"put the certificate of {seen.issuer!r}, in PEM form, into {way.ca_file}"
    else:
        cause = (
            "its issuer is no authority of this system: a private one; or the server does not send the "
            "certificates between"
        )
        fix = f'jobs.ca_cert_file = "/path/to/ca.pem"   # JOBS_CACERTFILE; holds {seen.issuer!r}'
    return failure(
        "tls_unknown_issuer",
        way.place,
        f"issued by {seen.issuer or 'somebody unknown'}: {error.verify_message}",
        cause=cause,
        fix=(fix, f"openssl s_client -connect {way.place} -servername {way.host} -showcerts"),
        data=data,
    )


def _no_tls(way: Way, error: ssl.SSLError) -> Finding:
    return failure(
        "tls_fails",
        way.place,
        error.reason or str(error),
        cause="what listens there does not speak TLS as jobs do (plain http on that port, or TLS before 1.2)",
        fix=(
            f"curl -v {way.url}/api/v4/system/ping",
            "ssl_protocols TLSv1.2 TLSv1.3;   # nginx",
        ),
    )


def _validity(way: Way, version: str, seen: Seen, *, now: datetime) -> Finding:
    days = (seen.ends - now).days
    left = "1 day" if days == 1 else f"{days} days"
    value = f"{version}, until {_day(seen.ends)} ({left}), issued by {seen.issuer}"
    data = {
        "names": list(seen.names),
        "issuer": seen.issuer,
        "ends": _day(seen.ends),
        "days": days,
    }
    if days < SOON_DAYS:
        return warning(
            "tls_expires_soon",
            way.place,
            value,
            cause="after that no job reaches Mattermost any more",
            fix=("renew the certificate of the web server in front of Mattermost, and reload it",),
            data=data,
        )
    return ok("tls_trusted", way.place, value, data=data)


def _plain_name(seen: Seen) -> str:
    return next((name for name in seen.names if "*" not in name), "NAME")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


TLS: Final = Step("tls", "Certificate of the Mattermost server", shake_hands, timeout_s=30)
