"""How commands find the running service, and what they say when they do not."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from offloader.cli.doors import find_door
from offloader.cli.failures import BadUsage, CommandFailed, ServiceUnreachable
from offloader.cli.main import main
from offloader.http_server import HttpServer
from offloader.listen import bind
from offloader.settings import ApiSettings, load_settings

SECRET = "s" * 32
ADMIN = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": SECRET}


def api(tmp_path: Path, **environ: str) -> ApiSettings:
    here = {"STORE_DATASOURCE": f"{tmp_path}/store.db"}
    return load_settings(tmp_path / "none.toml", here | environ).api


def door(settings: ApiSettings, **options: Any) -> Any:
    return find_door(settings, **({"socket_path": None, "url": None, "ca_file": None} | options))


def test_the_socket_beside_the_store_is_the_first_choice(tmp_path: Path) -> None:
    settings = api(tmp_path, **ADMIN)
    (tmp_path / "store.sock").touch()
    found = door(settings)
    assert found.socket_path == tmp_path / "store.sock"
    assert found.authorization == ""


def test_a_socket_that_may_not_be_looked_at_is_tried_since_connecting_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = api(tmp_path, **ADMIN)

    def refused(_path: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", refused)
    assert door(settings).socket_path == tmp_path / "store.sock"


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        (":4545", "localhost"),
        ("0.0.0.0:4545", "127.0.0.1"),
        ("[::]:4545", "::1"),
        ("h:4545", "h"),
    ],
)
def test_without_a_socket_the_admins_key_opens_the_port(
    tmp_path: Path, listen: str, host: str
) -> None:
    found = door(api(tmp_path, API_HTTP_LISTENADDRESS=listen, **ADMIN))
    assert (found.host, found.port, found.tls) == (host, 4545, None)
    assert found.authorization.startswith("Basic ")
    assert SECRET not in repr(found)
    assert found.authorization not in repr(found)


def test_without_socket_and_key_the_error_names_all_ways(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable) as failed:
        door(api(tmp_path))
    for part in (f"{tmp_path}/store.sock", "--config", "--socket", "--url"):
        assert part in str(failed.value)


def test_a_url_needs_the_admins_key(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"api\.security\.enable_admin"):
        door(api(tmp_path), url="https://host:4545")
    assert door(api(tmp_path, **ADMIN), url="https://host").port == 443


@pytest.mark.parametrize(
    "url", ["host:4545", "ftp://h", "http://", "http://u:p@h", "http://h/x", "http://h:99999"]
)
def test_a_url_of_another_form_is_bad_usage(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadUsage):
        door(api(tmp_path, **ADMIN), url=url)


def test_options_that_do_not_go_together_are_bad_usage(tmp_path: Path) -> None:
    settings = api(tmp_path, **ADMIN)
    with pytest.raises(BadUsage, match="--socket and --url"):
        door(settings, url="http://h", socket_path=Path("s"))
    with pytest.raises(BadUsage, match="https"):
        door(settings, url="http://h", ca_file=Path("ca.pem"))
    with pytest.raises(CommandFailed, match="no certificates"):
        door(settings, url="https://h", ca_file=tmp_path / "none.pem")


def test_nobody_on_the_socket_is_code_3_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert main(["status", "--socket", str(path), "--config", f"{tmp_path}/none.toml"]) == 3
    assert capsys.readouterr().err == (
        f"offloader: {path}: Connection refused: see that the service runs\n"
    )


def test_something_else_on_the_socket_is_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        import threading

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["status", "--socket", str(path), "--config", f"{tmp_path}/none.toml"]) == 3
        thread.join()
    assert "what answers there is no job service" in capsys.readouterr().err


async def test_by_the_port_the_admins_key_counts_and_another_key_is_refused(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(**ADMIN)
    [sock] = bind("127.0.0.1:0")
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = HttpServer(running.offloader.app)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    command = ["status", "--json", "--url", url, "--config", str(tmp_path / "none.toml")]
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    assert await asyncio.to_thread(main, command) == 0
    monkeypatch.setenv("API_SECURITY_ADMINSECRETKEY", "x" * 32)
    assert await asyncio.to_thread(main, command) == 1
    assert "the key in this configuration is not the one" in capsys.readouterr().err
    server.should_exit = True
    await serving
