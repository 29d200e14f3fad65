"""Weave Net (archived): VXLAN of its own data path on port 6784, or sleeve; no route shows which."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, environment, name_of

NAME = "weave"
DAEMONSETS = ("weave-net",)


def read(objects: Objects, found: Found) -> None:
    """Read the MTU."""
    item = objects.daemonset(*DAEMONSETS)
    if item is None:
        return
    source = f"DaemonSet {name_of(item)}"
    found.unknown("encapsulation", f"{source}: Weave chooses between VXLAN and sleeve for each peer")
    if mtu := environment(item).get("WEAVE_MTU"):
        found.claim("mtu.pod", bytes_of(mtu, f"{source} WEAVE_MTU"), f"{source} WEAVE_MTU")
