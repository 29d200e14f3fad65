"""AWS VPC CNI: pods have addresses of the VPC, nothing is encapsulated; the MTU is in the environment of its DaemonSet."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, environment, name_of

NAME = "aws-vpc-cni"
DAEMONSETS = ("aws-node",)


def read(objects: Objects, found: Found) -> None:
    """Read MTUs: POD_MTU of pods, where it is set, else that of the network interfaces."""
    item = objects.daemonset(*DAEMONSETS)
    if item is None:
        return
    source = f"DaemonSet {name_of(item)}"
    found.encapsulate("none", "Never", f"{source} (it never encapsulates)")
    given = environment(item)
    for key, names in (("mtu.uplink", ("AWS_VPC_ENI_MTU",)), ("mtu.pod", ("POD_MTU", "AWS_VPC_ENI_MTU"))):
        name = next((name for name in names if given.get(name)), None)
        if name is not None:
            found.claim(key, bytes_of(given[name], f"{source} {name}"), f"{source} {name}")
