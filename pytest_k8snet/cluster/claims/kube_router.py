"""kube-router: flags of its DaemonSet (docs/tunnels.md)."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import containers, flags, name_of, words

NAME = "kube-router"
DAEMONSETS = ("kube-router",)

OVERLAY_TYPES = ("subnet", "full")
ENCAPSULATIONS = ("ipip", "fou")  # fou is IP within UDP (GUE): the device is an ipip one as well


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation: between subnets by IPIP unless flags say otherwise."""
    item = objects.daemonset(*DAEMONSETS)
    if item is None:
        return
    given = flags([word for container in containers(item) for word in words(container)])
    source = f"DaemonSet {name_of(item)}"
    overlay, kind = given.get("overlay-type", "subnet"), given.get("overlay-encap", "ipip")
    if given.get("enable-overlay", "true").lower() == "false":
        found.encapsulate("none", "Never", f"{source} --enable-overlay")
    elif overlay not in OVERLAY_TYPES:
        found.mistake(f"{source} --overlay-type", overlay, OVERLAY_TYPES)
    elif kind not in ENCAPSULATIONS:
        found.mistake(f"{source} --overlay-encap", kind, ENCAPSULATIONS)
    else:
        told = f"{source} --overlay-type" + ("" if "overlay-type" in given else " (subnet is the default)")
        found.encapsulate(kind, "Always" if overlay == "full" else "CrossSubnet", told)
