"""Faults of pods that were there before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pytest_k8snet.lab.faults.model import ANY_KUBE_PROXY, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until

SYSCTLS = ({"name": "net.ipv4.ip_local_port_range", "value": "32768 60999"},)

# The pod's pause process is in its network namespace; the uid is in the path of its control group, whichever driver makes that.
IN_POD = """
uid=$1; shift
for path in $(grep -l -e "$uid" -e "$(echo "$uid" | tr - _)" /proc/[0-9]*/cgroup 2>/dev/null); do
    pid=${path#/proc/}
    exec nsenter --net="/proc/${pid%/cgroup}/ns/net" "$@"
done
exit 1
"""
NO_ROUTE = ("ip", "route", "delete", "default")
FORMER_MTU = ("ip", "link", "set", "eth0", "mtu", "1400")
#: As kubelet writes it for pods that ask the cluster's DNS, at an address where there is none (TEST-NET-1).
FORMER_DNS = {
    "dnsPolicy": "None",
    "dnsConfig": {
        "nameservers": ["192.0.2.53"],
        "searches": ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        "options": [{"name": "ndots", "value": "5"}],
    },
}


def _pod(lab: FaultyLab, node: FaultyNode, name: str, *sysctls: Mapping[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": f"k8snet-fault-{name}-{node.name}"},
        "spec": {
            "nodeName": node.name,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"sysctls": [*sysctls]},
            **spec,
            "containers": [{"name": "pause", "image": lab.pause_image, "imagePullPolicy": "IfNotPresent"}],
        },
    }


def _start(lab: FaultyLab, pod: Mapping[str, Any]) -> None:
    lab.apply_object(pod)
    wait_until(lambda: lab.read_object(pod).get("status", {}).get("phase") == "Running", f"the pod {pod['metadata']['name']} to run")


def _start_untuned(lab: FaultyLab, node: FaultyNode) -> None:
    _start(lab, _pod(lab, node, "untuned", *SYSCTLS))


def _start_changed(name: str, command: Sequence[str], lab: FaultyLab, node: FaultyNode) -> None:
    """Start a pod and run a command in its network."""
    pod = _pod(lab, node, name)
    _start(lab, pod)
    lab.run(node.name, ["sh", "-c", IN_POD, "sh", lab.read_object(pod)["metadata"]["uid"], *command])


def _start_asking(lab: FaultyLab, node: FaultyNode) -> None:
    _start(lab, _pod(lab, node, "asking", **FORMER_DNS))


def _delete(name: str, lab: FaultyLab, node: FaultyNode) -> None:
    lab.delete_object(_pod(lab, node, name))


FAULTS = (
    Fault(
        "pod-untuned",
        area="pods",
        summary="a pod that runs on the node has another net.ipv4.ip_local_port_range than new ones get",
        turns=(Turns("NET-PODS-001"),),
        apply=_start_untuned,
        revert=partial(_delete, "untuned"),
    ),
    Fault(
        "pod-without-route",
        area="pods",
        summary="a pod that runs on the node has lost its default route",
        turns=(Turns("NET-PODS-002"),),
        apply=partial(_start_changed, "astray", NO_ROUTE),
        revert=partial(_delete, "astray"),
    ),
    Fault(
        "pod-mtu-former",
        area="mtu",
        summary="a pod that runs on the node has an MTU of 1400, as the CNI gave pods before its configuration was changed",
        turns=(Turns("NET-MTU-004"),),
        apply=partial(_start_changed, "narrow", FORMER_MTU),
        revert=partial(_delete, "narrow"),
    ),
    Fault(
        "pod-dns-former",
        area="dns",
        summary="a pod that runs on the node asks an address that the cluster's DNS has no more",
        turns=(Turns("NET-DNS-003"),),
        apply=_start_asking,
        revert=partial(_delete, "asking"),
        proxy_modes=ANY_KUBE_PROXY,
    ),
)
