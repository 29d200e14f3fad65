from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach


@pytest.mark.k8snet_check(
    id="NET-REACH-006", level="probe", title="one owner answers for every load balancer's address in the nodes' subnet"
)
def test_load_balancer_owner(documents, verdict):
    """For every address of a Service of type LoadBalancer that is in the nodes' own subnet exactly one machine answers.

    Why
        Two answer when an address was given out twice, when speakers of two clusters or two VRRP instances share a segment, and when
        kube-proxy in ipvs mode answers on every node (strictARP): clients then talk to whichever was quicker, and connections break. None
        answers when the speaker is gone.
    How it is measured
        Every node (32 at most) asks by ARP, three times and 32 addresses at most, from its uplink, and what all hear is put together, as a
        node does not hear itself. Each asks another node for its own address as well. What has not exactly one owner is asked for
        again 12 s later.
    Expected
        One machine, by however many of its devices. None is fine for Services without ready endpoints, which MetalLB does not
        announce. Inconclusive where a node alone can ask, and where not even another node's address is answered. Skipped where no
        address is in a node's subnet (clouds, BGP), for IPv6 and for ipMode Proxy.
    Blind spots
        A switch that answers ARP in others' stead, or keeps it from them, hides a second owner. Nothing is seen of
        addresses that are announced by BGP, of a cloud's, and of IPv6.
    Fix
        Two: `ip neigh`, arping -I eth0 ADDRESS; strictARP: true for kube-proxy's ipvs mode (NET-PROXY-005); pools of MetalLB that
        overlap with DHCP or another cluster's. None: the speaker's log and its node selectors.
    References
        metallb.io/concepts/layer2; kubernetes/kubernetes#59976 (strictARP); RFC 826; RFC 5227.
    """
    verdict(reach.load_balancer_owner(documents("owners")))
