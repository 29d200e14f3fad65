from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns


@pytest.mark.k8snet_check(id="NET-DNS-008", level="read", title="kubelets tell new pods whom to ask")
def test_kubelet(node, cluster, verdict):
    """The kubelet gives new pods the cluster's DNS and its domain, and pods with the node's resolver one that is not themselves.

    Why
        A node that joined with another clusterDNS or clusterDomain, an old template or a new Service address, makes pods that resolve
        nothing, one after the other as they are replaced; those that run show nothing of it. A resolvConf with 127.0.0.53
        (systemd-resolved's own file) makes CoreDNS ask itself, and it ends with "Loop detected".
    How it is measured
        The kubelet's command line, and the keys clusterDNS, clusterDomain and resolvConf of the files that it names (--config, and
        *.conf of --config-dir), read on the node: no right to nodes/proxy is needed. Flags win over files, and of files the last one.
        Beside them the address of the Service with label k8s-app=kube-dns, NodeLocal DNSCache's, and the Corefile's zones.
    Expected
        clusterDNS with no other addresses than the Service's, NodeLocal DNSCache's, that of AKS' LocalDNS or, on GKE, that of Cloud
        DNS (169.254.169.254), which NET-DNS-004 asks whether it knows the cluster; a clusterDomain that
        the plugin kubernetes answers for; no loopback address in the file resolvConf. What is not known of the cluster is not
        judged, nor are addresses where neither kube-proxy nor anything in its place leads from Services to pods. It is what the
        kubelet takes when it starts: a file that was changed since counts. Of MicroK8s, which has the kubelet within another process,
        the file of its arguments is read. Skipped where it is within one that has none (k3s).
    Fix
        Correct the kubelet's configuration on the node (kubeadm: ConfigMap kube-system/kubelet-config, then `kubeadm upgrade node`),
        restart it, and restart the node's pods. Where systemd-resolved runs: resolvConf: /run/systemd/resolve/resolv.conf.
    References
        kubelet.config.k8s.io/v1beta1 KubeletConfiguration; CoreDNS plugin loop, Troubleshooting Loops In Kubernetes Clusters.
    """
    verdict(dns.kubelet(node.facts, cluster))
