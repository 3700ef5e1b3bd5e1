"""A door before a real Docker Engine's socket: the calls of `engine_calls.py` pass, and nothing else.

So the tests on a real engine prove that this list is enough; and each container that is to be made is looked
at for what none of ours ever asks for.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offloader.backends.docker.engine_calls import is_listed
from offloader.backends.docker.seccomp import BROWSER_PROFILE

_HARDENED: Final = ["no-new-privileges"]
_FOR_BROWSERS: Final = [f"seccomp={json.dumps(BROWSER_PROFILE, separators=(',', ':'))}"]
_NAMED: Final = frozenset(
    {
        *("Mounts", "Binds", "NetworkMode", "ExtraHosts", "Init", "RestartPolicy", "Memory"),
        *("MemorySwap", "NanoCpus", "CpuShares", "PidsLimit", "Ulimits", "LogConfig", "CapDrop"),
        *("SecurityOpt", "Privileged", "ReadonlyRootfs", "Tmpfs", "ShmSize"),
    }
)
"""What a job's HostConfig may say: nothing of devices, capabilities, namespaces of the host and the like."""

_FORBIDDEN: Final = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close"


def excess(body: Mapping[str, Any], *, models: str = "") -> list[str]:
    """What the body of `POST /containers/create` asks for that no job may have.

    `models`: the directory or volume of the setting.
    """
    host = body["HostConfig"]
    own = host.get("SecurityOpt") == _HARDENED
    found = [name for name in host if name not in _NAMED]
    found += ["Privileged"] if host.get("Privileged") else []
    if not own and host.get("SecurityOpt") != _FOR_BROWSERS:
        found.append("SecurityOpt")
    if host["CapDrop"] != (["ALL"] if own else ["MKNOD", "NET_RAW"]):
        found.append("CapDrop")
    if host["ReadonlyRootfs"] is not own:
        found.append("ReadonlyRootfs")
    if own and host.get("NetworkMode") != "none" and body.get("User") != "10001:10001":
        found.append("User")
    if (host.get("Binds") or []) != ([f"{models}:/models:ro"] if models else []):
        found.append("Binds")
    for mount in host.get("Mounts", ()):
        source = re.fullmatch(r"calls-(recorder|transcriber)-[a-z0-9-]+", mount["Source"])
        if mount.keys() != {"Type", "Source", "Target"} or mount["Type"] != "volume" or not source:
            found.append("Mounts")
    if host["NetworkMode"].startswith("container:"):
        found.append("NetworkMode")
    return found


class EngineDoor(socketserver.ThreadingUnixStreamServer):
    """Listens on a socket in `directory`; one request per connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, directory: Path, engine: str) -> None:
        path = directory / "engine.sock"
        self.address = f"unix://{path}"
        self.engine = engine
        """Path of the real one's socket."""
        self.models: set[str] = {""}
        """Where tests have models: else no directory of the host gets into a container."""
        self.refused: list[str] = []
        super().__init__(str(path), _Visit)
        self._serving = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._serving.start()

    def close(self) -> None:
        self.shutdown()
        self._serving.join()
        self.server_close()


class _Visit(socketserver.BaseRequestHandler):
    server: EngineDoor
    request: socket.socket

    def handle(self) -> None:
        head, rest = self._read_head()
        if not head:
            return
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = {
            name.lower(): text.strip() for name, _, text in (x.partition(":") for x in lines[1:])
        }
        wrong = [] if is_listed(method, target) else ["is not listed"]
        if not wrong and "/containers/create" in target:
            rest += self._read(int(fields["content-length"]) - len(rest))
            body = json.loads(rest)
            wrong = min((excess(body, models=models) for models in self.server.models), key=len)
        if wrong:
            self.server.refused.append(f"{method} {target}: {', '.join(wrong)}")
            text = json.dumps({"message": self.server.refused[-1]})
            self.request.sendall(f"{_FORBIDDEN}\r\n\r\n{text}".encode())
            return
        if "upgrade" not in fields:
            # So that nothing after this request passes unseen.
            kept = [line for line in lines[1:] if not line.lower().startswith("connection:")]
            lines = [lines[0], *kept, "Connection: close"]
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.engine)
            engine.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + rest)
            inwards = threading.Thread(target=_pump, args=(self.request, engine), daemon=True)
            inwards.start()
            _pump(engine, self.request)
            with contextlib.suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)
            inwards.join()

    def _read_head(self) -> tuple[bytes, bytes]:
        read = b""
        while b"\r\n\r\n" not in read:
            more = self.request.recv(65536)
            if not more:
                return b"", b""
            read += more
        head, _, rest = read.partition(b"\r\n\r\n")
        return head, rest

    def _read(self, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            more = self.request.recv(size - len(read))
            if not more:
                break
            read += more
        return bytes(read)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Until its end, which is passed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
