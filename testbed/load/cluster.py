"""`python -m testbed.load.cluster DIRECTORY`: the double of a Kubernetes API as a process of its own.

Its jobs are simulated: containers that only sleep. One JSON line on standard output when it listens, with the
settings of a service that works there; it ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from testbed.kubernetes.server import running_cluster

_CLAIM: Final = "recordings"
_SLEEP: Final = (
    "/bin/sh",
    "-c",
    'echo \'{"event":"started","joined_after_s":0.4}\'; exec sleep 3600',
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    asyncio.run(_serve(parser.parse_args().directory))


async def _serve(directory: Path) -> None:
    async with running_cluster(directory / "cluster") as cluster:
        kubeconfig = await asyncio.to_thread(cluster.kubeconfig, directory / "kubeconfig")
        environ = {
            "JOBS_APITYPE": "kubernetes",
            "KUBECONFIG": str(kubeconfig),
            "JOBS_KUBERNETES_KUBECONFIG": str(kubeconfig),
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": _CLAIM,
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": str(cluster.kubelet.claim_dir(_CLAIM)),
            "JOBS_RUNNERIMAGES": json.dumps({"*": "busybox:1.36"}),
            "JOBS_KUBERNETES_PODTEMPLATE": json.dumps({"recording": _template()}),
        }
        print(json.dumps(environ), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        await reader.read()


def _template() -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "job", "command": list(_SLEEP)}]}}


if __name__ == "__main__":
    main()
