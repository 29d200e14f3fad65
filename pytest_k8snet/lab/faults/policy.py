"""Faults of NetworkPolicies: a node on which nobody enforces them, or a part of them; one that does not see all packets."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.access.probe_policies import OPEN_PORT
from pytest_k8snet.lab import kube_router
from pytest_k8snet.lab.faults.kernel import sysctl
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.networks import NETWORKS

BRIDGED = tuple(kind for kind, network in NETWORKS.items() if network.interfaces_by != "ptp")

# kube-router's own chains, and what leads to them. Its process has ended by then: nobody writes them again.
_FLUSH = "iptables-legacy-save -t filter | grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)-' | iptables-legacy-restore -w"
_COUNT = "iptables-legacy -w -S FORWARD | grep -c KUBE-ROUTER-FORWARD || true"
_ENDED = "pgrep -x kube-router || true"
_SYSCTL = "net.bridge.bridge-nf-call-iptables"

# kube-router writes all its rules by the first iptables-restore of its PATH, which it looks for each time.
_RESTORE = "/proc/$(pgrep -xo kube-router)/root/usr/local/bin/iptables-restore"
_LOSING = """#!/bin/sh
grep -viE -- '{}' | exec /usr/sbin/iptables-restore "$@"
"""
_OPENED = f"--dport {OPEN_PORT} "
_OPENED_TO_DATAGRAMS = f"-p udp .*{_OPENED}"
_FROM_PODS = "rule to jump traffic from POD "  # its comment on what leads from a pod into the rules for it
_LOSE = f'cat >"{_RESTORE}"; chmod 755 "{_RESTORE}"'
_KEEP = f'rm "{_RESTORE}"'


def _said(lab: FaultyLab, node: FaultyNode, script: str, *, stdin: str | None = None) -> str:
    return lab.run(node.name, ["sh", "-ec", script], stdin=stdin).stdout.strip()


def _end(lab: FaultyLab, node: FaultyNode) -> None:
    lab.label_node(node.name, kube_router.ELSEWHERE, "true")
    wait_until(lambda: not _said(lab, node, _ENDED), f"kube-router to end on {node.name}")
    _said(lab, node, _FLUSH)


def _begin(lab: FaultyLab, node: FaultyNode) -> None:
    lab.label_node(node.name, kube_router.ELSEWHERE, None)
    wait_until(lambda: _said(lab, node, _COUNT) == "1" and _is_ready(lab), f"kube-router to enforce policies on {node.name} again")


def _is_ready(lab: FaultyLab) -> bool:
    status = lab.read_object(kube_router.daemon_set())["status"]
    return bool(status.get("numberReady") == status.get("desiredNumberScheduled") == len(lab.nodes))


def _lose(what: str) -> Callable[[FaultyLab, FaultyNode], None]:
    def lose(lab: FaultyLab, node: FaultyNode) -> None:
        _said(lab, node, _LOSE, stdin=_LOSING.format(what))

    return lose


def _keep(lab: FaultyLab, node: FaultyNode) -> None:
    _said(lab, node, _KEEP)


def _lost(name: str, what: str, summary: str) -> Fault:
    summary = f"of what kube-router writes on the node the rules {summary}"
    return Fault(name, area="policy", summary=summary, turns=(Turns("NET-POLICY-001"),), apply=_lose(what), revert=_keep, with_policy=True)


FAULTS = (
    Fault(
        "policies-not-enforced",
        area="policy",
        summary="kube-router runs no more on the node, and its rules are gone: NetworkPolicies are objects alone there",
        turns=(Turns("NET-POLICY-001"),),
        apply=_end,
        revert=_begin,
        with_policy=True,
    ),
    _lost("policy-rules-lost", _OPENED, f"that open port {OPEN_PORT} are lost: allowed, and shut"),
    _lost("policy-egress-rules-lost", _FROM_PODS, "for what pods send are lost: it enforces policies in one direction"),
    _lost("policy-udp-rules-lost", _OPENED_TO_DATAGRAMS, f"that open port {OPEN_PORT} over UDP are lost: allowed, and shut"),
    Fault(
        "bridge-unfiltered",
        area="policy",
        summary=f"{_SYSCTL} is 0 on the node: what its pods send to each other passes no rule, answers of Services among it",
        turns=(Turns("NET-POLICY-001"), Turns("NET-KERNEL-007"), Turns("NET-DNS-004")),
        apply=sysctl(f"{_SYSCTL}=0"),
        revert=sysctl(f"{_SYSCTL}=1"),
        networks=BRIDGED,
        with_policy=True,
    ),
)
