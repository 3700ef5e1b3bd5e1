"""What /proc says about a process, its children and its sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from sfu.loadtest.processes import listener, usage


def test_children_belong_to_it() -> None:
    alone = usage(os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        together = usage(os.getpid())
        assert together.processes == alone.processes + 1
        assert together.rss_bytes > alone.rss_bytes
        assert usage(child.pid).processes == 1
    finally:
        child.kill()
        child.communicate()


def test_cpu_time_grows_with_work() -> None:
    before = usage(os.getpid()).cpu_s
    began_s = time.process_time()
    while time.process_time() - began_s < 0.1:
        pass
    assert 0.05 <= usage(os.getpid()).cpu_s - before <= 5


def test_a_full_receive_buffer_is_seen() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.bind(("127.0.0.1", 0))
        before = usage(os.getpid()).udp_drops
        for _ in range(50):
            sender.sendto(bytes(1000), deaf.getsockname())
        assert usage(os.getpid()).udp_drops - before > 20


def test_the_server_is_found_by_its_port() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert listener(port) is None  # bound, but not listening
        server.listen()
        assert listener(port) == os.getpid()


def test_no_such_process_is_an_error() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(ProcessLookupError):
        usage(gone.pid)
