"""Whether the files that settings name can be used for what they are named for. Only reads them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from foundation.layered_config import ConfigError, Problem
from offloader.settings import Reading


def unusable_files(reading: Reading) -> Iterator[Problem]:
    """Certificates, keys and authorities that the service could not use. Blocks."""
    tls = reading.settings.api.tls
    if tls.enable:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert_file, tls.cert_key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            text = f"certificate or key cannot be used: {error.strerror or error}"
            yield _file_problem(reading, "api.http.tls.cert_file", text)
    ca_file = reading.settings.jobs.network.ca_cert_file
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            text = f"no certificates can be read from it: {error.strerror or error}"
            yield _file_problem(reading, "jobs.ca_cert_file", text)
    for webhook in reading.settings.notify.webhooks:
        try:
            webhook.read_secret()
        except ConfigError as error:
            line = str(error)
            text = line.rpartition(": ")[2]
            place = reading.sources["notify.webhooks"]
            yield Problem(place, "notify.webhooks", "***", text, line)


def _no_password() -> str:
    """Never asks at the terminal: a key that is encrypted cannot be used."""
    return ""


def _file_problem(reading: Reading, name: str, text: str) -> Problem:
    place, value = reading.sources[name], str(reading.values[name])
    return Problem(place, name, repr(value), text, f"{name} = {value!r}: {text}")
