from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.reach import ReachRecord


@pytest.mark.k8snet_check(id="NET-REACH-001", level="probe", title="pods reach the pods of other nodes")
def test_pods_reach_pods(node, verdict):
    """The pod on this node reaches the pod on every other node, over TCP and over UDP.

    Why
        It is what a pod network is for. A route, a tunnel or a rule that fails on one node only is seen by some clients of a
        Service and not by others.
    How it is measured
        The probe pod asks a small server in the probe pods of the other nodes, all at the same time, over every address they
        have: two tries of three seconds, TCP and UDP. The server tells on which node it is, so that an answer from the wrong
        pod is no answer. Which nodes are asked is for --k8snet-pairs to say: by default every one of up to 16, of more the next
        in the ring.
    Expected
        An answer from the right pod to each; built in. An answer at the second try only is advice.
    Blind spots
        The probe's own ports, over TCP and UDP: SCTP, ICMP and what a firewall closes port by port are not tried, nor
        are nodes that are no pair of this run. NetworkPolicies of your own namespaces do not hold in the run's.
    Fix
        `ip route get` the named address on the named node, then NET-ENCAP-001 and NET-LOSS-001: they say where packets go and
        where they end. Where UDP alone gets no answer, or nothing between nodes of different groups: a cloud's security groups
        (terraform-aws-eks opens port 53 and, of the rest, at most a part of TCP to other nodes by itself). Where a policy
        blocks the probe pods, it is named and the verdict is inconclusive: allow what the message says, or let the run use
        another namespace.
    References
        Kubernetes documentation, The Kubernetes network model: pods can communicate with all other pods.
    """
    verdict(reach.pods_reach_pods(ReachRecord.from_document(node.document("reach"))))
