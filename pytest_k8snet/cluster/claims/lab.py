"""The project's own lab says what its network is in one ConfigMap."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, read_json, section
from pytest_k8snet.cluster.model import Node

NAME = "k8snet-lab"
NETWORK = ("kube-system", "k8snet-lab-network")


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation, MTUs, and whether nodes tell each other routes by BGP."""
    text = objects.config_maps.get(NETWORK, {}).get("network.json")
    if text is None:
        return
    source = f"ConfigMap {'/'.join(NETWORK)} network.json"
    network = read_json(text, source)
    if "encapsulation" in network:
        found.claim("encapsulation", network["encapsulation"], f"{source} encapsulation")
    for key, value in section(network, "mtu").items():
        if value:
            found.claim(f"mtu.{key}", bytes_of(value, f"{source} mtu.{key}"), f"{source} mtu.{key}")
    if "bgp" in network:
        found.claim("bgp", network["bgp"], f"{source} bgp")


def bgp_addresses(node: Node, found: Found) -> tuple[str, ...]:
    """Return the address that BIRD of other nodes speaks to, where the lab claims a mesh; elsewhere none."""
    claim = found.claims.get("bgp")
    ours = claim is not None and claim.value == "mesh" and claim.source.startswith(f"ConfigMap {'/'.join(NETWORK)} ")
    return (node.internal_ip,) if ours and node.internal_ip is not None else ()
