"""Faults of objects that the whole cluster shares: what they say is wrong, or does not fit together. No node is changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.service_proxy import CONFIG_MAP

NAME = "k8snet-lab-fault"
MISSPELT = {"ipvs": "IPVS", "iptables": "IPTables", "nftables": "nft"}
GONE = "k8snet-uninstalled"
"""A namespace that is not there."""


def _services(lab: FaultyLab, node: FaultyNode) -> Mapping[str, Any]:
    """Give a range of Services: that of the node's pods, as one who enlarges the first one may choose."""
    del lab
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "spec": {"cidrs": [node.pod_cidr]},
    }


def _webhook(lab: FaultyLab, node: FaultyNode) -> Mapping[str, Any]:
    """Give what an uninstalled policy engine leaves behind. It is asked about pods of one namespace alone, so that others can be made."""
    del lab, node
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": "pods.k8snet.invalid",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {"service": {"namespace": GONE, "name": "webhook", "path": "/"}},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": GONE}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            }
        ],
    }


def _make(of: Any, lab: FaultyLab, node: FaultyNode) -> None:
    lab.apply_object(of(lab, node))


def _delete(of: Any, lab: FaultyLab, node: FaultyNode) -> None:
    lab.delete_object(of(lab, node))


def _replaced(lab: FaultyLab, was: str, by: str) -> None:
    """Change the mode in the ConfigMap of kube-proxy, which reads it when it starts."""
    found = lab.read_object(CONFIG_MAP)
    text = found["data"]["config.conf"].replace(f'"mode": "{was}"', f'"mode": "{by}"')
    labels = found["metadata"].get("labels") or {}
    lab.apply_object(
        {**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "labels": labels}, "data": {**found["data"], "config.conf": text}}
    )


def _misspell(lab: FaultyLab, node: FaultyNode) -> None:
    del node
    _replaced(lab, lab.proxy_mode, MISSPELT[lab.proxy_mode])


def _spell(lab: FaultyLab, node: FaultyNode) -> None:
    del node
    _replaced(lab, MISSPELT[lab.proxy_mode], lab.proxy_mode)


FAULTS = (
    Fault(
        "service-range-overlaps",
        area="control_plane",
        summary="a second range of Services was added, and is the range of the node's pods",
        turns=(Turns("NET-CONTROL-002", subject="cluster"),),
        apply=partial(_make, _services),
        revert=partial(_delete, _services),
        networks=("native", "vxlan"),
    ),
    Fault(
        "webhook-left-over",
        area="control_plane",
        summary="a webhook is asked about the pods of a namespace, and its Service went with what was uninstalled",
        turns=(Turns("NET-CONTROL-007", subject="cluster"),),
        apply=partial(_make, _webhook),
        revert=partial(_delete, _webhook),
    ),
    Fault(
        "proxy-mode-misspelt",
        area="control_plane",
        summary="the ConfigMap of kube-proxy has a mode that is none: the next kube-proxy that starts will not",
        turns=(Turns("NET-CONTROL-001", subject="cluster"),),
        apply=_misspell,
        revert=_spell,
        proxy_modes=tuple(MISSPELT),
    ),
)
