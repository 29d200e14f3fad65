"""Faults of Cilium in place of kube-proxy: what the kernel's maps of Services lack, and an agent that runs with another configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.cilium import CONFIG_MAP, NAMESPACE
from pytest_k8snet.lab.faults.kernel import Action, sysctl
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.settings import CILIUM, SERVICE_CIDR

SERVICES, BACKENDS = (f"/sys/fs/bpf/tc/globals/{name}" for name in ("cilium_lb4_services_v2", "cilium_lb4_backends_v3"))
PORT = 9153
"""That of CoreDNS' metrics: nobody asks there but the faults."""
KEPT = "/run/k8snet-fault-cilium"
STRANGER = IPv4Address("10.255.255.254")
SETTING = "kube-proxy-replacement"
CONFIGURATION = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": CONFIG_MAP}}

_ASK = """
import socket
def ask(path):
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect("/run/cilium/cilium.sock")
        sock.sendall(b"GET /v1/" + path + b" HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n")
        while chunk := sock.recv(65536):
            answer += chunk
    return answer.partition(b"\\r\\n\\r\\n")[2].decode()
print('{"health": %s, "endpoints": %s}' % (ask(b"healthz"), ask(b"endpoint")))
"""
_READ_SETTING = f"grep -h . /var/lib/kubelet/pods/*/volumes/kubernetes.io~configmap/{CONFIG_MAP}/{SETTING}"

_READY_S = 900.0
"""Until an agent has compiled its programs again, on an emulated processor."""


def _bpftool(lab: FaultyLab, node: FaultyNode, *words: str) -> str:
    """Run bpftool where it is: in the container of the node's agent."""
    script = 'exec nsenter --mount --pid --target "$(pgrep -o -x cilium-agent)" -- bpftool "$@"'
    return lab.run(node.name, ["sh", "-c", script, "sh", *words]).stdout


def _key(slot: int) -> list[str]:
    """Give the key of a slot of the frontend of CoreDNS' metrics, as bpftool takes it."""
    return _hex(SERVICE_CIDR[10].packed + PORT.to_bytes(2, "big") + slot.to_bytes(2, "little") + bytes(4))


def _hex(content: bytes) -> list[str]:
    return ["hex", *(f"{byte:02x}" for byte in content)]


def _value(lab: FaultyLab, node: FaultyNode, table: str, key: list[str]) -> bytes:
    told: dict[str, Any] = json.loads(_bpftool(lab, node, "-j", "map", "lookup", "pinned", table, "key", *key))
    return bytes(int(byte, 16) for byte in told["value"])


def _keep(lab: FaultyLab, node: FaultyNode, table: str, key: list[str], value: bytes) -> None:
    """Write down what the fault takes away."""
    lab.run(node.name, ["tee", KEPT], stdin=json.dumps({"table": table, "key": key, "value": _hex(value)}))


def _restore(lab: FaultyLab, node: FaultyNode) -> None:
    kept = json.loads(lab.run(node.name, ["cat", KEPT]).stdout)
    _bpftool(lab, node, "map", "update", "pinned", kept["table"], "key", *kept["key"], "value", *kept["value"])
    lab.run(node.name, ["rm", KEPT])


def _drop_frontend(lab: FaultyLab, node: FaultyNode) -> None:
    key = _key(0)
    _keep(lab, node, SERVICES, key, _value(lab, node, SERVICES, key))
    _bpftool(lab, node, "map", "delete", "pinned", SERVICES, "key", *key)


def _backend(lab: FaultyLab, node: FaultyNode) -> list[str]:
    """Give the key of the frontend's first backend."""
    return _hex(_value(lab, node, SERVICES, _key(1))[:4])


def _drop_backend(lab: FaultyLab, node: FaultyNode) -> None:
    key = _backend(lab, node)
    _keep(lab, node, BACKENDS, key, _value(lab, node, BACKENDS, key))
    _bpftool(lab, node, "map", "delete", "pinned", BACKENDS, "key", *key)


def _lead_astray(lab: FaultyLab, node: FaultyNode) -> None:
    """Put an address that no pod has into a backend."""
    key = _backend(lab, node)
    value = _value(lab, node, BACKENDS, key)
    _keep(lab, node, BACKENDS, key, value)
    _bpftool(lab, node, "map", "update", "pinned", BACKENDS, "key", *key, "value", *_hex(STRANGER.packed + value[4:]))


def _configure(lab: FaultyLab, value: str) -> None:
    found = lab.read_object(CONFIGURATION)
    lab.apply_object({**CONFIGURATION, "data": {**found["data"], SETTING: value}})


def _wait_for_kubelet(lab: FaultyLab, node: FaultyNode, value: str) -> None:
    """Return when the kubelet has written a change of the ConfigMap where the pods of the node see it, which takes it up to two minutes."""
    wait_until(
        lambda: set(lab.run(node.name, ["sh", "-c", _READ_SETTING]).stdout.split()) == {value},
        f"the kubelet of {node.name} to write {SETTING} {value} for Cilium's agent",
        timeout_s=300,
    )


def _agent(lab: FaultyLab, node: FaultyNode) -> dict[str, Any]:
    """Ask the node's agent of itself and of its endpoints; an empty answer while it does not run."""
    try:
        told = json.loads(lab.run(node.name, ["python3", "-c", _ASK]).stdout)
    except (LabError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _restart(lab: FaultyLab, node: FaultyNode, mode: str) -> None:
    """End the node's agent; its DaemonSet brings another one, which reads the ConfigMap anew.

    It answers before its programs are compiled, and until they are no pod can be made on the node.
    """
    lab.run(node.name, ["sh", "-c", 'kill "$(pgrep -o -x cilium-agent)"'])
    wait_until(
        lambda: runs_in_mode(_agent(lab, node), mode),
        f"Cilium's agent on {node.name} to run with {SETTING} {mode}, all its endpoints ready",
        timeout_s=_READY_S,
    )


def runs_in_mode(told: Mapping[str, Any], mode: str) -> bool:
    """Whether an agent replaces kube-proxy in this mode, and has built the programs of every endpoint that it has."""
    replaces = ((told.get("health") or {}).get("kube-proxy-replacement") or {}).get("mode")
    states = [((endpoint or {}).get("status") or {}).get("state") for endpoint in told.get("endpoints") or ()]
    return replaces == mode and bool(states) and set(states) == {"ready"}


def _replace_nothing(lab: FaultyLab, node: FaultyNode) -> None:
    """Let the agent start while the ConfigMap says false; then the ConfigMap says true again, and the agent does not read it."""
    _configure(lab, "false")
    try:
        _wait_for_kubelet(lab, node, "false")
        _restart(lab, node, "False")
    finally:
        _configure(lab, "true")


def _replace(lab: FaultyLab, node: FaultyNode) -> None:
    _wait_for_kubelet(lab, node, "true")
    _restart(lab, node, "True")


_FILTER = "net.ipv4.conf.cilium_host.rp_filter"
_LEFT = """
table ip kube-proxy {
  chain services {
    type nat hook prerouting priority -100
    ip daddr 192.0.2.1 counter
  }
}
"""


def _nft(text: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["nft", "-f", "-"], stdin=text)

    return act


FAULTS = (
    Fault(
        "cilium-frontend-missing",
        area="absence",
        summary="the kernel's map has no frontend for a Service port any more, though Cilium's agent lists it",
        turns=(Turns("NET-ABSENCE-007"),),
        apply=_drop_frontend,
        revert=_restore,
        proxy_modes=("none",),
        networks=CILIUM,
    ),
    Fault(
        "cilium-backend-missing",
        area="absence",
        summary="a backend is gone from the kernel's map: a share of a Service's connections is dropped",
        turns=(Turns("NET-ABSENCE-007"),),
        apply=_drop_backend,
        revert=_restore,
        proxy_modes=("none",),
        networks=CILIUM,
    ),
    Fault(
        "cilium-backend-stale",
        area="absence",
        summary="a backend in the kernel's map has the address of a pod that is gone",
        turns=(Turns("NET-ABSENCE-007"),),
        apply=_lead_astray,
        revert=_restore,
        proxy_modes=("none",),
        networks=CILIUM,
    ),
    Fault(
        "cilium-replacement-off",
        area="absence",
        summary="Cilium's agent on the node was started when the ConfigMap said kube-proxy-replacement false; it says true again",
        turns=(Turns("NET-ABSENCE-006"),),
        apply=_replace_nothing,
        revert=_replace,
        proxy_modes=("none",),
        networks=CILIUM,
    ),
    Fault(
        "cilium-host-strict",
        area="kernel",
        summary="the reverse path filter of the node's cilium_host is strict, as a sysctl.d file for all devices leaves it",
        turns=(Turns("NET-KERNEL-009"),),
        apply=sysctl(f"{_FILTER}=1"),
        revert=sysctl(f"{_FILTER}=0"),
        proxy_modes=("none",),
        networks=CILIUM,
    ),
    Fault(
        "nft-table-left-over",
        area="absence",
        summary="the nftables table of a kube-proxy that is gone is left, with a chain that packets of pods pass",
        turns=(Turns("NET-ABSENCE-004"),),
        apply=_nft(_LEFT),
        revert=_nft("delete table ip kube-proxy"),
        proxy_modes=("none",),
        networks=CILIUM,  # User-Mode Linux has no such tables
    ),
    Fault(
        "forwarding-off",
        area="kernel",
        summary="net.ipv4.ip_forward is 0, as after a hardening run: under Cilium nothing turns it on again before the agent restarts",
        turns=(Turns("NET-KERNEL-006"),),
        apply=sysctl("net.ipv4.ip_forward=0"),
        revert=sysctl("net.ipv4.ip_forward=1"),
        proxy_modes=("none",),
        networks=CILIUM,
    ),
)
