from __future__ import annotations

import socket

import pytest

from foundation.layered_config import ConfigError
from offloader.listen import bind


def test_an_empty_host_means_all_interfaces_of_both_families() -> None:
    [sock] = bind(":0")
    with sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", port), timeout=5).close()


def test_a_taken_port_names_port_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* taken .*API_HTTP_LISTENADDRESS"):
            bind(f"127.0.0.1:{port}")


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen on port 4545"):
        bind("192.0.2.1:4545")
