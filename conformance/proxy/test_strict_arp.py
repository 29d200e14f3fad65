from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-005", level="read", title="strict ARP is in force on the uplink")
def test_strict_arp(node, expect, verdict):
    """With strict ARP the node answers ARP only for addresses of the device that is asked.

    Why
        In ipvs mode every node holds every LoadBalancer address on kube-ipvs0. Without strict ARP all of them answer for
        it, and MetalLB or kube-vip in layer 2 mode lose the address to whichever node is faster.
    How it is measured
        net.ipv4.conf.all and net.ipv4.conf.<uplink> arp_ignore and arp_announce in the node's network namespace; the larger
        one is in force.
    Expected
        arp_ignore 1 and arp_announce 2 where proxy.strict_arp of the profile or ipvs.strictARP of the kube-proxy ConfigMap
        asks for it; skipped elsewhere.
    Fix
        Set ipvs.strictARP: true and restart kube-proxy on the node; remove what resets the two sysctls (kube-proxy does not
        look again).
    References
        kubernetes pkg/proxy/ipvs/backend.go (PrivilegedInit); linux Documentation/networking/ip-sysctl (arp_ignore).
    """
    verdict(proxy.strict_arp(node.facts, expect.proxy))
