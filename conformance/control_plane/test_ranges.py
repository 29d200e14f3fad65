from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-002", level="read", title="ranges of pods, Services and nodes do not overlap")
def test_ranges(cluster, verdict):
    """No address is both a pod's and a Service's, or a node's.

    Why
        A Service with the address of a pod takes its connections, a node within the pods' range is reached from no pod: it
        shows for single addresses, months after the cluster was made.
    How it is measured
        Nodes' addresses and pod ranges, ServiceCIDR objects, flags of the control plane's static pods and of k3s' servers
        (an annotation of nodes), Flannel's, Calico's and Cilium's ranges, from the API.
    Expected
        Services' ranges overlap no pods' range, no node's pod range another's, and no node's address is in either. Where one
        range alone is told, nodes' addresses are compared with that. Skipped where none is.
    Fix
        Ranges are chosen when a cluster is made. A range can be added (ServiceCIDR, a second IPPool) and the other retired.
    References
        kubernetes KEP-1880 (ServiceCIDR); kubeadm networking.podSubnet, networking.serviceSubnet.
    """
    verdict(control_plane.ranges(cluster))
