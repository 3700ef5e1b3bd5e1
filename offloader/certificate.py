"""When the TLS certificate ends: monitors shall know before clients do."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from offloader.settings import TlsSettings


def certificate_end(tls: TlsSettings) -> datetime | None:
    """Of the server's own certificate, as the file holds it now; None without TLS or a readable file."""
    if not tls.enable:
        return None
    from cryptography import x509  # only where there is a certificate: it is slow to import

    try:
        return x509.load_pem_x509_certificate(Path(tls.cert_file).read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
