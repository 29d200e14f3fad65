"""Flannel: net-conf.json, in the ConfigMap of its DaemonSet or (canal) of Calico's; inside k3s only annotations and arguments of nodes."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, read_json, section

NAME = "flannel"
DAEMONSETS = ("kube-flannel-ds", "kube-flannel", "canal", "rke2-canal")
NAMESPACE = "kube-flannel"
CONFIG = "kube-flannel-cfg"
CONFIG_MAPS = (CONFIG, "canal-config", "rke2-canal-config")
BACKEND_ANNOTATION = "flannel.alpha.coreos.com/backend-type"

#: Backend.Type to the kind of device that packets leave by (pkg/backend); of the others nothing is known here.
BACKENDS = {"vxlan": "vxlan", "host-gw": "none", "ipip": "ipip", "wireguard": "wireguard", "udp": "tun"}
TYPES = ("vxlan", "host-gw", "wireguard", "udp", "ipip", "ipsec", "alloc", "tencent-vpc", "extension")
OVERHEAD_BYTES = 50  # of VXLAN over IPv4


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation and MTU; where there is no ConfigMap, the backends that the nodes have noted."""
    read_any = False
    for source, data in objects.maps(*CONFIG_MAPS):
        if "net-conf.json" in data:
            _from_configuration(data["net-conf.json"], f"{source} net-conf.json", found)
            read_any = True
        # In Canal it is Calico's plugin that makes pods' devices, with an MTU of their own (RKE2: 1450, on whatever uplink).
        if (mtu := data.get("veth_mtu", "0")) != "0":
            found.claim("mtu.pod", bytes_of(mtu, f"{source} veth_mtu"), f"{source} veth_mtu")
    if not read_any:
        _from_nodes(objects, found)


def _from_configuration(text: str, source: str, found: Found) -> None:
    backend = section(read_json(text, source), "Backend")
    kind = str(backend.get("Type") or "udp") if backend else ""  # a Backend without a type is udp (subnet/config.go)
    if kind in BACKENDS:
        direct = backend.get("DirectRouting") and BACKENDS[kind] != "none"
        found.encapsulate(BACKENDS[kind], "CrossSubnet" if direct else "Always", f"{source} Backend.Type")
    elif kind and kind not in TYPES:
        found.mistake(f"{source} Backend.Type", kind, TYPES)
    # It is the underlay's MTU; device and pods get what VXLAN leaves of it (pkg/backend/vxlan: device.go, vxlan_network.go).
    if kind == "vxlan" and backend.get("MTU"):
        mtu = bytes_of(backend["MTU"], f"{source} Backend.MTU") - OVERHEAD_BYTES
        for key in ("mtu.pod", "mtu.tunnel"):
            found.claim(key, mtu, f"{source} Backend.MTU less VXLAN's {OVERHEAD_BYTES} bytes")


def _from_nodes(objects: Objects, found: Found) -> None:
    backends: dict[str, list[str]] = {}
    for item in objects.nodes:
        backend = (item["metadata"].get("annotations") or {}).get(BACKEND_ANNOTATION)
        if backend is not None:
            backends.setdefault(backend, []).append(item["metadata"]["name"])
    if len(backends) > 1:
        told = "; ".join(f"{backend} on {', '.join(names[:3])}" for backend, names in sorted(backends.items()))
        found.mistakes.append(f"nodes run different backends of flannel ({BACKEND_ANNOTATION}): {told}")
        found.unknown("encapsulation", f"{BACKEND_ANNOTATION} differs: {told}")
    for backend, names in backends.items():
        if len(backends) == 1 and backend in BACKENDS:
            # With DirectRouting the annotation is the same: only where packets really go can tell the two apart.
            found.encapsulate(BACKENDS[backend], "Always", f"Node {names[0]} {BACKEND_ANNOTATION}")
