"""Which pod belongs to which Job, also when it is gone: a pod's last state tells how its job ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from offloader.backends.kubernetes.mirror import Thing
from offloader.backends.kubernetes.observation import Look
from offloader.backends.kubernetes.options import NAME_LABEL

_MOST_GONE: Final = 1024


class PodBook:
    """Fed with every change of a pod. A Job is told from an earlier one of its name by its UID."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Thing]] = {}
        """Names of Jobs to their pods, by UID."""
        self._gone: OrderedDict[str, Thing] = OrderedDict()
        """By the UID of the Job: its pod as it was seen last."""

    def changed(self, pod: Thing, gone: bool) -> None:
        """See `Mirror`."""
        name = (pod["metadata"].get("labels") or {}).get(NAME_LABEL)
        if name is None:
            return
        pods = self._pods.setdefault(name, {})
        if not gone:
            pods[pod["metadata"]["uid"]] = pod
            return
        pods.pop(pod["metadata"]["uid"], None)
        if not pods:
            del self._pods[name]
        self._gone[_job_uid(pod)] = pod
        if len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)

    def living(self, name: str, *, job_uid: str = "") -> Thing | None:
        """The newest pod of a Job; without a UID of whichever had that name."""
        found = self._pods.get(name, {}).values()
        pods = [pod for pod in found if job_uid in ("", _job_uid(pod))]
        return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

    def look(self, job: Thing) -> Look:
        """The Job and what is known of its pod."""
        uid = job["metadata"]["uid"]
        pod = self.living(job["metadata"]["name"], job_uid=uid)
        return Look(job, pod) if pod else Look(job, self._gone.get(uid), pod_gone=True)

    def forget(self, name: str) -> list[Thing]:
        """The Job is removed; the pods that it had."""
        return list(self._pods.pop(name, {}).values())


def _job_uid(pod: Thing) -> str:
    """Of the Job that made it."""
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
