"""The project's own lab says what its network is in one ConfigMap."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, read_json, section

NAME = "k8snet-lab"
NETWORK = ("kube-system", "k8snet-lab-network")


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation and MTUs."""
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
