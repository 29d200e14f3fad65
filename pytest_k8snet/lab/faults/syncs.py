"""A kube-proxy that runs and answers, and brings nothing into the kernel any more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until

#: A set that kube-proxy makes in ipvs mode, and that nothing refers to while no Service of type LoadBalancer names sources.
SET = "KUBE-LOAD-BALANCER-SOURCE-CIDR"

#: What kube-proxy says of itself: 503 when a change has waited for two sync periods, however many came after it, 200 once all are in.
LIVEZ = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:10256/livez", timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

#: A Service that is made when syncs fail already: its virtual server is not in the table, whatever else changes or does not.
NAMED: dict[str, Any] = {"namespace": "default", "name": "k8snet-lab-fault-sync"}
SERVICE: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": NAMED, "spec": {"ports": [{"name": "web", "port": 80}]}}
ENDPOINTS: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {**NAMED, "labels": {"kubernetes.io/service-name": NAMED["name"]}},
    "addressType": "IPv4",
    "ports": [{"name": "web", "port": 80}],
    "endpoints": [{"addresses": ["192.0.2.80"], "conditions": {"ready": True}}],
}


def _livez(lab: FaultyLab, node: FaultyNode) -> int:
    return int(lab.run(node.name, ["python3", "-c", LIVEZ]).stdout)


def _stick(lab: FaultyLab, node: FaultyNode) -> None:
    """Give the set another type, which kube-proxy does not take, and make a Service."""
    lab.run(node.name, ["ipset", "restore"], stdin=f"destroy {SET}\ncreate {SET} hash:ip\n")  # at once: else it makes its own again
    lab.apply_object(SERVICE)
    lab.apply_object(ENDPOINTS)
    wait_until(
        lambda: _livez(lab, node) == HTTPStatus.SERVICE_UNAVAILABLE,
        f"kube-proxy on {node.name} to say that changes wait",
        timeout_s=120,
        interval_s=2,
    )


def _release(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ipset", "destroy", SET])
    lab.delete_object(ENDPOINTS)
    lab.delete_object(SERVICE)
    wait_until(
        lambda: _livez(lab, node) == HTTPStatus.OK,
        f"kube-proxy on {node.name} to bring changes into the kernel again",
        interval_s=2,
    )


FAULTS = (
    Fault(
        "proxy-syncs-fail",
        area="proxy",
        summary=f"the ipset {SET} has another type, as an older tool left it: kube-proxy runs, and none of its syncs succeeds, "
        "and a Service that is made then is not in its table",
        turns=(Turns("NET-PROXY-008"), Turns("NET-PROXY-006")),
        apply=_stick,
        revert=_release,
        proxy_modes=("ipvs",),
    ),
)
