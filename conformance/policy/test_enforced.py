from __future__ import annotations

import pytest

from pytest_k8snet.judge import policy
from pytest_k8snet.record.policy import PolicyRecord


@pytest.mark.k8snet_check(id="NET-POLICY-001", level="probe", title="NetworkPolicies deny and allow as they are written, on every node")
def test_enforced(node, expect, verdict):
    """What a NetworkPolicy denies to a pod of the node, or keeps it from, is denied, and what it allows passes.

    Why
        A NetworkPolicy is an object like any other: the API server takes it whether or not anything enforces it. Where the agent
        that should has died, has lost the API server, or was never there on one node, everything that relies on it is open there.
    How it is measured
        On every node the run makes a small pod of its own that answers on four ports, over TCP and UDP, and a NetworkPolicy, of ingress
        and egress, that selects those pods alone. Over TCP it opens one port to all, one to the pods of the run's namespace
        (namespaceSelector), one to the probe pods of every second node, one to nobody; over UDP one to all and one to nobody. The probe
        pods of the same node and of two others send to all of these. The pod itself sends to those probe pods, told by one of them, as
        a policy may keep it from that: over TCP it may reach one port of all, one of every second node's and one of nobody's, over UDP
        one and not another. All of it before there is the policy (the control), again and again while there is, until all is as
        written twice in a row or policy.settle_s is over, and after it is gone. Which pod answers is told by its name. No other pod is
        selected, so that nothing else is shut.
    Expected
        With the policy what it opens is answered, and what it does not is not, in both directions and over both protocols; within
        policy.settle_s (30 s) of the profile. When it is gone everything is answered again, as fast. What was not answered before
        proves nothing: inconclusive, as it is where no probe pod could be made to answer the pod. Skipped where nobody is known to
        enforce policies and the profile's policy.enforced does not say that somebody does; nothing is made then. So it is with the
        agent of the AWS VPC CNI, which leaves pods without an owner, such as these, alone. Without the right to create
        NetworkPolicies it is skipped as well.
    Blind spots
        The policy is the run's own, for pods of its own: whether yours say what you mean is not seen. Not tried are ipBlock, which is for
        addresses outside the cluster (Cilium does not take pods for such), IPv6, SCTP, ports by name, connections that are open when a
        policy is made, and traffic of the node itself, which a policy may not shut.
    Fix
        Look at the CNI's agent on the node (calico-node, cilium, antrea-agent, kube-router, aws-node): its log, and whether it
        reaches the API server. On the same node alone: net.bridge.bridge-nf-call-iptables = 1 and the module br_netfilter, where
        pods are on a bridge. Refused although allowed: other policies select pods of all namespaces
        (GlobalNetworkPolicy, CiliumClusterwideNetworkPolicy, AdminNetworkPolicy).
    References
        kubernetes networking.k8s.io/v1 NetworkPolicy (ipBlock: "these should be cluster-external IPs").
    """
    verdict(policy.enforced(PolicyRecord.from_document(node.document("policy")), expect.policy))
