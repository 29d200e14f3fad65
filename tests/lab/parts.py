"""Parts of the lab ring that run when they are asked for: what takes long, and proves what is seldom touched."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

VARIABLE = "K8SNET_TEST_LAB"
"""Environment: the parts that run beside what always does, separated by commas, or all."""

MARK = "part"
"""The marker of a test of such a part: its one argument names it."""

PARTS: Mapping[str, str] = {
    **{kind: f"the network {kind}, healthy and with its faults" for kind in ("flannel-vxlan", "flannel-host-gw", "flannel-ipip", "bgp")},
    "cilium": "Cilium in place of kube-proxy, with direct routes and in a tunnel, on nodes in QEMU",
    "dual": "clusters whose pods have IPv6, beside IPv4 or alone",
    "nftables": "kube-proxy in nftables mode, on nodes in QEMU",
    "policy": "NetworkPolicies that kube-router enforces",
    "again": "twenty healthy runs in a row, on two networks: no false alarm",
    "measured": "the faults that only packets show: of speed, reach, loss, path MTU, latency, DNS and Services; and those of objects",
    "packets": "what the checks that send packets say where nobody serves Services",
    "ingress-shut": "the fault of the ingress whose proof takes waiting",
    "shards": "three shards measured by a Job in the cluster, and two of which the first asks through the ingress",
    "survival": "a slow API server, a kubelet that restarts, a node that stands still or is switched off, no memory, another run's load",
}


def is_chosen(part: str) -> bool:
    """Whether the environment asks for a part. Ends the run for one that is unknown, in the tests or in the environment."""
    chosen = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    for name in (part, *chosen):
        if name != "all" and name not in PARTS:
            raise pytest.UsageError(f"{VARIABLE}: there is no part {name!r}; there are: all, {', '.join(PARTS)}")
    return part in chosen or "all" in chosen


def why_not(part: str) -> str:
    """Say how a part is asked for."""
    return f"{PARTS[part]}: {VARIABLE}={part} or all"
