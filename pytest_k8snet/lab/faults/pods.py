"""Faults of pods that were there before the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until

SYSCTLS = ({"name": "net.ipv4.ip_local_port_range", "value": "32768 60999"},)

# The pod's pause process is in its network namespace; the uid is in the path of its control group, whichever driver makes that.
NO_ROUTE = """
for path in $(grep -l -e "$1" -e "$(echo "$1" | tr - _)" /proc/[0-9]*/cgroup 2>/dev/null); do
    pid=${path#/proc/}
    exec nsenter --net="/proc/${pid%/cgroup}/ns/net" ip route delete default
done
exit 1
"""


def _pod(lab: FaultyLab, node: FaultyNode, name: str, *sysctls: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": f"k8snet-fault-{name}-{node.name}"},
        "spec": {
            "nodeName": node.name,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"sysctls": [*sysctls]},
            "containers": [{"name": "pause", "image": lab.pause_image, "imagePullPolicy": "IfNotPresent"}],
        },
    }


def _start(lab: FaultyLab, pod: Mapping[str, Any]) -> None:
    lab.apply_object(pod)
    wait_until(lambda: lab.read_object(pod).get("status", {}).get("phase") == "Running", f"the pod {pod['metadata']['name']} to run")


def _start_untuned(lab: FaultyLab, node: FaultyNode) -> None:
    _start(lab, _pod(lab, node, "untuned", *SYSCTLS))


def _delete_untuned(lab: FaultyLab, node: FaultyNode) -> None:
    lab.delete_object(_pod(lab, node, "untuned"))


def _start_astray(lab: FaultyLab, node: FaultyNode) -> None:
    pod = _pod(lab, node, "astray")
    _start(lab, pod)
    lab.run(node.name, ["sh", "-c", NO_ROUTE, "sh", lab.read_object(pod)["metadata"]["uid"]])


def _delete_astray(lab: FaultyLab, node: FaultyNode) -> None:
    lab.delete_object(_pod(lab, node, "astray"))


FAULTS = (
    Fault(
        "pod-untuned",
        area="pods",
        summary="a pod that runs on the node has another net.ipv4.ip_local_port_range than new ones get",
        turns=(Turns("NET-PODS-001"),),
        apply=_start_untuned,
        revert=_delete_untuned,
    ),
    Fault(
        "pod-without-route",
        area="pods",
        summary="a pod that runs on the node has lost its default route",
        turns=(Turns("NET-PODS-002"),),
        apply=_start_astray,
        revert=_delete_astray,
    ),
)
