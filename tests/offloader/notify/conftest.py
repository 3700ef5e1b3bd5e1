"""A webhook as Mattermost has it, over real HTTP, plain or with TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testbed.certificates import Certificates, make_certificates


@dataclass
class Webhook:
    """What has arrived."""

    url: str = ""
    """A secret, as the real one."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    """What each request asked for; a whole URL of one that came as to a proxy."""
    kinds: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """The next statuses; 200 when there are none."""

    @property
    def lines(self) -> list[str]:
        return [request["text"] for request in self.requests]


@contextmanager
def serving(certificates: Certificates | None = None) -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = webhook.answers.pop(0) if webhook.answers else 200
            webhook.targets.append(self.path)
            webhook.kinds.append(self.headers["Content-Type"])
            if status == 200:
                webhook.requests.append(json.loads(body))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificates is None else "https"
    webhook = Webhook(f"{scheme}://127.0.0.1:{server.server_port}/hooks/secret17")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with serving() as webhook:
        yield webhook


@pytest.fixture
def tls_webhook(tmp_path: Path) -> Iterator[tuple[Webhook, Path]]:
    """One with a certificate of a private CA, and that CA's file."""
    made = make_certificates(tmp_path / "tls", address="127.0.0.1")
    with serving(made) as webhook:
        yield webhook, made.ca


@pytest.fixture
def webhooks() -> Iterator[Callable[[], Webhook]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(serving())
