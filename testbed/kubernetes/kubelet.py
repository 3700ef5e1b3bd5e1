"""The double's node: runs a pod's container as a local process, and kills it as a kubelet would.

There is no isolation: a volume is a directory, and where a variable or an argument begins with the path of
a mount it is given that directory instead. Init containers are not run.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from testbed.kubernetes.objects import Objects, Thing, now_text
from testbed.kubernetes.pod_log import PodLog

_MARK: Final = "TESTBED_POD_UID"
_CHUNK_BYTES: Final = 1 << 16
_MISSING: Final = "missing"
"""Images whose name holds this are in no registry."""


class Kubelet:
    """One task per pod."""

    def __init__(self, objects: Objects, *, root: Path, second_s: float) -> None:
        """`second_s`: how long a second of a grace or a deadline lasts."""
        self._objects = objects
        self._root = root
        self._second_s = second_s
        self._pods: dict[str, _RunningPod] = {}
        self.logs: dict[str, PodLog] = {}
        """By UID; of pods that have begun."""
        self.nodes = True
        """False: no pod finds a node."""
        self.node_count = 3
        """Pods that want a node of their own find so many."""
        self.dead = False
        """The node does not answer: nothing that happens on it is told."""

    def claim_dir(self, claim: str) -> Path:
        return self._root / "claims" / claim

    def take(self, pod: Thing) -> None:
        """A pod was made."""
        if not self.nodes or self._wants_too_many(pod):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu.",
            }
            pod["status"] = {"phase": "Pending", "conditions": [condition]}
            self._objects.touch("pods", pod)
            return
        running = _RunningPod(self, self._objects, pod, self._root, self._second_s)
        self._pods[pod["metadata"]["uid"]] = running
        running.task = asyncio.create_task(running.run(), name=pod["metadata"]["name"])

    def _wants_too_many(self, pod: Thing) -> bool:
        affinity = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
        apart = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        if not apart:
            return False
        marks = apart[0]["labelSelector"]["matchLabels"].items()
        alike = [
            running
            for running in self._pods.values()
            if marks <= (running.pod["metadata"].get("labels") or {}).items()
        ]
        return len(alike) >= self.node_count

    def delete(self, pod: Thing, grace_s: int) -> None:
        """Ask it to end; a shorter grace than before asks again."""
        meta = pod["metadata"]
        running = self._pods.get(meta["uid"])
        if running is None or grace_s == 0 or running.task is None or running.task.done():
            self._objects.remove("pods", pod)
            return
        if grace_s >= meta.get("deletionGracePeriodSeconds", 1 << 40):
            return
        meta["deletionTimestamp"] = now_text(grace_s)
        meta["deletionGracePeriodSeconds"] = grace_s
        self._objects.touch("pods", pod)
        running.end(grace_s)

    def kill(self, name: str, *, oom: bool = False) -> None:
        """End a pod's process by force, `oom`: for its memory."""
        pod = self._objects.get("pods", name)
        running = self._pods[pod["metadata"]["uid"]]
        running.oom = oom
        running.kill()

    def evict(self, name: str, message: str) -> None:
        """As a node that runs short of something."""
        pod = self._objects.get("pods", name)
        running = self._pods[pod["metadata"]["uid"]]
        running.reason = ("Evicted", message)
        running.kill()

    async def aclose(self) -> None:
        for running in self._pods.values():
            running.kill()
        tasks = [running.task for running in self._pods.values() if running.task is not None]
        if tasks:
            await asyncio.wait(tasks)


class _RunningPod:
    """A pod on the node."""

    def __init__(
        self, kubelet: Kubelet, objects: Objects, pod: Thing, root: Path, second_s: float
    ) -> None:
        self._kubelet = kubelet
        self._objects = objects
        self._pod = self.pod = pod
        self._root = root
        self._second_s = second_s
        self._process: asyncio.subprocess.Process | None = None
        self._asked = asyncio.Event()
        self._killer: asyncio.TimerHandle | None = None
        self._started_at = ""
        self.task: asyncio.Task[None] | None = None
        self.oom = False
        self.reason: tuple[str, str] | None = None

    async def run(self) -> None:
        scheduled = [{"type": "PodScheduled", "status": "True"}]
        self._pod["status"] = {
            "phase": "Pending",
            "startTime": now_text(),
            "conditions": scheduled,
        }
        self._pod["spec"]["nodeName"] = "node-1"
        self._state({"waiting": {"reason": "ContainerCreating"}})
        try:
            ended = await self._run_container()
        finally:
            if self._killer is not None:
                self._killer.cancel()
        if ended is not None and not self._kubelet.dead:
            self._pod["status"]["phase"] = "Succeeded" if ended["exitCode"] == 0 else "Failed"
            if self.reason is not None:
                reason, message = self.reason
                self._pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            self._state({"terminated": ended})
        if self._pod["metadata"].get("deletionTimestamp") and not self._kubelet.dead:
            self._objects.remove("pods", self._pod)

    def end(self, grace_s: float) -> None:
        self._asked.set()
        self._signal(signal.SIGTERM)
        if self._killer is not None:
            self._killer.cancel()
        loop = asyncio.get_running_loop()
        self._killer = loop.call_later(grace_s * self._second_s, self.kill)

    def kill(self) -> None:
        self._asked.set()
        self._signal(signal.SIGKILL)

    async def _run_container(self) -> dict[str, Any] | None:
        container = self._pod["spec"]["containers"][0]
        complaint = {"reason": "ErrImagePull", "message": f"{container['image']}: not found"}
        while _MISSING in container["image"] or (complaint := self._not_yet(container)):
            self._state({"waiting": complaint})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._asked.wait()
            if self._asked.is_set():
                return None
        command = [*container.get("command", ["/bin/true"]), *container.get("args", [])]
        places, environ = self._places(container), self._environ(container)
        log = self._kubelet.logs[self._pod["metadata"]["uid"]] = PodLog()
        self._started_at = now_text()
        output, input_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(_placed(part, places) for part in command),
                env={name: _placed(text, places) for name, text in environ.items()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=input_end,
                stderr=input_end,
                start_new_session=True,
            )
        except OSError as error:
            os.close(output)
            log.end()
            message = (
                f'failed to create containerd task: exec: "{command[0]}": stat {command[0]}: '
                f"{(error.strerror or '').lower()}"
            )
            return self._end(128, "StartError", message)
        finally:
            os.close(input_end)
        self._pod["status"]["phase"] = "Running"
        self._state({"running": {"startedAt": self._started_at}})
        if self._asked.is_set():
            self._signal(signal.SIGTERM)
        deadline_s = self._pod["spec"].get("activeDeadlineSeconds", 1 << 30) * self._second_s
        overdue = asyncio.get_running_loop().call_later(deadline_s, self._overdue)
        try:
            code = await self._output_and_exit(self._process, output, log)
        finally:
            overdue.cancel()
        log.end()
        code = 128 - code if code < 0 else code
        if self.oom:
            return self._end(code, "OOMKilled", "")
        return self._end(code, "Completed" if code == 0 else "Error", "")

    async def _output_and_exit(
        self, process: asyncio.subprocess.Process, output: int, log: PodLog
    ) -> int:
        # A pipe of our own: that of a subprocess would have its end waited for, which what a job has left
        # running keeps open.
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", 0)
        )

        async def read() -> None:
            while data := await reader.read(_CHUNK_BYTES):
                log.write(data)

        reading = asyncio.create_task(read())
        try:
            code = await process.wait()
            # The pod's control group goes with its container; here its processes are known by a variable.
            await asyncio.to_thread(_kill_marked, self._pod["metadata"]["uid"])
            await reading
        finally:
            transport.close()
        return code

    def _overdue(self) -> None:
        self.reason = ("DeadlineExceeded", "Pod was active on the node longer than the deadline")
        self.end(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _end(self, code: int, reason: str, message: str) -> dict[str, Any]:
        return {
            "exitCode": code,
            "reason": reason,
            "startedAt": self._started_at,
            "finishedAt": now_text(),
            **({"message": message} if message else {}),
        }

    def _state(self, state: Mapping[str, Any]) -> None:
        container = self._pod["spec"]["containers"][0]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": dict(state),
        }
        self._pod["status"]["containerStatuses"] = [status]
        self._objects.touch("pods", self._pod)

    def _not_yet(self, container: Mapping[str, Any]) -> dict[str, str]:
        names = [entry["secretRef"]["name"] for entry in container.get("envFrom") or []]
        volumes = self._pod["spec"].get("volumes") or []
        names += [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
        for name in names:
            if self._objects.find("secrets", name) is None:
                reason = "CreateContainerConfigError"
                return {"reason": reason, "message": f'secret "{name}" not found'}
        return {}

    def _environ(self, container: Mapping[str, Any]) -> dict[str, str]:
        environ = {"PATH": os.environ["PATH"], _MARK: self._pod["metadata"]["uid"]}
        for entry in container.get("envFrom") or []:
            secret = self._objects.get("secrets", entry["secretRef"]["name"])
            for name, text in secret["data"].items():
                environ[name] = base64.b64decode(text).decode()
        return environ | {entry["name"]: entry["value"] for entry in container.get("env") or []}

    def _places(self, container: Mapping[str, Any]) -> dict[str, str]:
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes") or []}
        return {
            mount["mountPath"]: str(self._place(volumes[mount["name"]], mount))
            for mount in container.get("volumeMounts") or []
            if "persistentVolumeClaim" in volumes[mount["name"]]
            or "secret" in volumes[mount["name"]]
            or mount["mountPath"] == "/data"
        }

    def _place(self, volume: Mapping[str, Any], mount: Mapping[str, Any]) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            place: Path = self._kubelet.claim_dir(claim["claimName"]) / mount.get("subPath", "")
            place.mkdir(parents=True, exist_ok=True)
            return place
        self._root.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self._root))
        if secret := volume.get("secret"):
            data = self._objects.get("secrets", secret["secretName"])["data"]
            for key, text in data.items():
                (place / key).write_bytes(base64.b64decode(text))
                (place / key).chmod(secret.get("defaultMode", 0o644))
        return place

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _placed(text: str, places: Mapping[str, str]) -> str:
    for mounted, place in places.items():
        if text == mounted or text.startswith(f"{mounted}/"):
            return place + text.removeprefix(mounted)
    return text


def _kill_marked(uid: str) -> None:
    mark = f"{_MARK}={uid}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
