from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from foundation.layered_config import ConfigError
from offloader.listen import bind, bind_local


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


def test_the_local_socket_is_for_its_owner_only_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "new" / "service.sock"
    with bind_local(path) as sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            sock.accept()[0].close()


def test_a_socket_that_nobody_listens_on_any_more_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    bind_local(path).close()
    bind_local(path).close()


def test_another_services_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    with bind_local(path) as first:
        with pytest.raises(ConfigError, match=r"another service listens on it; .*API_ADMINSOCKET"):
            bind_local(path)
        assert path.exists()
        assert first.fileno() > 0


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="Address already in use"):
        bind_local(path)
    assert path.read_text() == "mine"


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        bind_local(tmp_path / ("x" * 120))
