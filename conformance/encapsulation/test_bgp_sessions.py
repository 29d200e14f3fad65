from __future__ import annotations

import pytest

from pytest_k8snet.judge import encapsulation


@pytest.mark.k8snet_check(id="NET-ENCAP-003", level="read", title="BGP sessions of the node are established")
def test_bgp_sessions(node, verdict):
    """Every BGP session of the BIRD that runs on the node is established.

    Why
        A session that is down takes its routes with it: pods of some nodes are not reached any more, or by way of a router
        that should not carry their traffic.
    How it is measured
        `show protocols` at BIRD's control socket on the node: Calico's (/run/calico/bird.ctl) or BIRD's own
        (/run/bird/bird.ctl, /run/bird.ctl). Asking changes nothing.
    Expected
        State up, Established, for every protocol of kind BGP. Skipped on nodes without BIRD.
    Fix
        `birdc show protocols all <session>` tells what it waits for. A session that waits in Connect or Active has a peer
        that does not answer at TCP port 179; one that comes and goes has often another AS number than the peer expects.
    References
        BIRD 2 user's guide, BGP; calico confd/etc/calico/confd/templates/bird.cfg.template.
    """
    verdict(encapsulation.bgp_sessions(node.facts))
