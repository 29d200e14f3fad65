"""Whether anything is known to lead from Services' addresses to pods."""

from __future__ import annotations

from pytest_k8snet.cluster.model import Cluster

#: CNIs that serve Services where kube-proxy is absent, whatever their configuration says.
REPLACING = ("antrea", "calico", "cilium", "kube-router", "ovn-kubernetes")


def is_served(cluster: Cluster) -> bool:
    """Whether the API knows of a kube-proxy, or of something in its place. It does not know of one within another program (k3s)."""
    if any(item["desired"] or item["pods"] for item in cluster.kube_proxy_daemonsets) or cluster.cni in REPLACING:
        return True
    claim = cluster.claims.get("proxy.mode")
    return claim is not None and claim.value is not None
