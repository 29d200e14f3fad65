"""Faults of what the kubelet is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pytest_k8snet.lab.faults.model import ANY_KUBE_PROXY, Fault, FaultyLab, FaultyNode, Turns

FILE = "/etc/kubernetes/kubelet.yaml"
KEPT = f"{FILE}.k8snet"
ELSEWHERE = "192.0.2.53"  # TEST-NET-1: nobody's


def _changed(change: Callable[[dict[str, Any]], None]) -> Callable[[FaultyLab, FaultyNode], None]:
    """Return what changes the kubelet's file, which it takes when it starts, and keeps what it was."""

    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["cp", "-n", FILE, KEPT])
        configuration = json.loads(lab.run(node.name, ["cat", KEPT]).stdout)
        change(configuration)
        lab.run(node.name, ["tee", FILE], stdin=json.dumps(configuration, indent=2) + "\n")

    return act


def _as_it_was(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["sh", "-c", f"[ ! -e {KEPT} ] || mv {KEPT} {FILE}"])


FAULTS = (
    Fault(
        name="kubelet-dns-elsewhere",
        area="dns",
        summary=f"the kubelet's file names {ELSEWHERE} for clusterDNS, as an old template would; running pods know nothing of it",
        turns=(Turns("NET-DNS-008"),),
        apply=_changed(lambda configuration: configuration.update(clusterDNS=[ELSEWHERE])),
        revert=_as_it_was,
        proxy_modes=ANY_KUBE_PROXY,
    ),
)
