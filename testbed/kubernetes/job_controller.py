"""The double's Job controller and garbage collector: as far as Jobs without retries need them."""

from __future__ import annotations

import asyncio
import copy

from testbed.kubernetes.kubelet import Kubelet
from testbed.kubernetes.objects import Event, Objects, Thing, now_text
from testbed.kubernetes.validation import check, violations


class JobController:
    """Acts on every change, a moment later, as a controller does that watches."""

    def __init__(self, objects: Objects, kubelet: Kubelet, *, restricted: bool) -> None:
        """`restricted`: the namespace enforces that Pod Security standard."""
        self._objects = objects
        self._kubelet = kubelet
        self._restricted = restricted
        objects.observers.append(self._changed)

    def _changed(self, event: Event) -> None:
        loop = asyncio.get_running_loop()
        uid = event.thing["metadata"]["uid"]
        if event.plural == "jobs" and event.kind != "DELETED":
            loop.call_soon(self._sync, event.thing["metadata"]["name"])
        if event.plural == "pods" and event.kind != "DELETED":
            loop.call_soon(self._count, event.thing)
        if event.plural == "pods" and event.kind == "DELETED":
            loop.call_soon(self._count, {**event.thing, "gone": True})
        if event.kind == "DELETED":
            loop.call_soon(self._collect, uid)

    def _sync(self, name: str) -> None:
        job = self._objects.find("jobs", name)
        if job is None:
            return
        status = job.setdefault("status", {})
        pods = [
            t for plural, t in self._objects.owned_by(job["metadata"]["uid"]) if plural == "pods"
        ]
        if job["spec"].get("suspend"):
            for pod in pods:
                if not _is_over(pod):
                    grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
                    self._kubelet.delete(pod, grace_s)
            return
        if pods or "startTime" in status or status.get("conditions"):
            return
        pods = [self._pod_of(job) for _ in range(job["spec"].get("parallelism", 1))]
        pod = pods[0]
        if self._restricted and (found := violations(pod)):
            # Events tell of it; the Job itself only has no pod.
            status["uncountedTerminatedPods"] = {}
            job["metadata"].setdefault("annotations", {})["double/violations"] = "; ".join(found)
            return
        check("pods", pod)
        status["startTime"] = now_text()
        status["active"] = len(pods)
        self._objects.touch("jobs", job)
        for pod in pods:
            self._kubelet.take(self._objects.create("pods", pod))

    def _pod_of(self, job: Thing) -> Thing:
        meta = job["metadata"]
        template = copy.deepcopy(job["spec"]["template"])
        own = template.get("metadata") or {}
        marks = {"job-name": meta["name"], "batch.kubernetes.io/job-name": meta["name"]}
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **own,
                "generateName": f"{meta['name']}-",
                "labels": {**(own.get("labels") or {}), **marks},
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }

    def _count(self, pod: Thing) -> None:
        owners = pod["metadata"].get("ownerReferences") or []
        job = self._objects.find("jobs", owners[0]["name"]) if owners else None
        if job is None or job["metadata"]["uid"] != owners[0]["uid"]:
            return
        status = job.setdefault("status", {})
        if status.get("conditions") or not (_is_over(pod) or pod.get("gone")):
            return
        phase = (pod.get("status") or {}).get("phase")
        if job["spec"].get("suspend") and phase != "Succeeded":
            return
        if phase == "Succeeded":
            status["succeeded"] = status.get("succeeded", 0) + 1
            if status["succeeded"] < job["spec"].get("completions", 1):
                self._objects.touch("jobs", job)
                return
        status.pop("active", None)
        kind = "Complete" if phase == "Succeeded" else "Failed"
        condition = {"type": kind, "status": "True", "lastTransitionTime": now_text()}
        if kind == "Failed":
            message = "Job has reached the specified backoff limit"
            condition |= {"reason": "BackoffLimitExceeded", "message": message}
        status["conditions"] = [condition]
        if kind == "Failed":
            status["failed"] = 1
        self._objects.touch("jobs", job)

    def _collect(self, uid: str) -> None:
        for plural, thing in list(self._objects.owned_by(uid)):
            if plural == "pods":
                self._kubelet.delete(thing, thing["spec"].get("terminationGracePeriodSeconds", 30))
            else:
                self._objects.remove(plural, thing)


def _is_over(pod: Thing) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
