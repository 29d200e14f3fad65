from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-009", level="read", title="no reverse path filter drops what the CNI routes asymmetrically")
def test_reverse_path(node, cluster, verdict):
    """The reverse path filter is not strict on devices by which packets come in whose answers leave by others.

    Why
        A strict filter drops a packet that comes in by a device which the routing table would not answer by, silently. A
        distribution's default in sysctl.d or a hardening guide turns it on behind the CNI's back.
    How it is measured
        net.ipv4.conf.all.rp_filter and that of the device: the larger one counts, 1 is strict.
    Expected
        Cilium: not strict on cilium_host. AWS VPC CNI: not strict on the uplink, as pods have addresses of other network
        interfaces. Other CNIs, and nodes of EKS without that one (hybrid, Auto Mode), route symmetrically or see to it
        themselves: skipped, with advice where the filter is strict on the uplink and log_martians is off.
    Fix
        `net.ipv4.conf.all.rp_filter = 0` (and the device's) in a file of sysctl.d that comes late, and
        net.ipv4.conf.all.log_martians = 1 to see what is dropped.
    References
        linux Documentation/networking/ip-sysctl (rp_filter); cilium pkg/datapath/linux (encryption);
        amazon-vpc-cni-k8s docs (AWS_VPC_K8S_CNI_EXTERNALSNAT, rp_filter).
    """
    verdict(kernel.reverse_path(node.facts, cluster.cni_of(node.name)))
