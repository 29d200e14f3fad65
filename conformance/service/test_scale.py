from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.scale import ScaleRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-008", level="probe", title="many Services make connections no slower")
def test_scale(node, cluster, expect, verdict):
    """Connecting to the last of many frontends of Services takes about as long as to the last of a few.

    Why
        Rules of iptables are gone through one by one: with thousands of Services every new connection waits, and so does every
        change. IPVS, nftables and eBPF look them up.
    How it is measured
        Only when asked for: `--k8snet-service-scale=10,1000`. The run makes Services of up to 100 ports in its own namespace until
        there are so many frontends (at most 10,000), all leading to one probe pod. For each number every node's pod connects to
        the last one until it is answered, which is timed from the first one's making on, and then 200 times, one after the other;
        and as often to the pod itself, before and after, so that a node that is busy meanwhile is told apart.
        They go with the run, also after Ctrl-C. Before that it is seen that there are addresses enough. `k8snet plot RUN -o
        scale.svg` draws what was measured.
    Expected
        How much longer the p50 is than to the pod itself: with the most at most service.scale_factor (2) times as much as with
        the fewest, or latency.slack_ms (1 ms) more. In
        iptables mode that is advice, unless the profile gives the factor. Every connection is answered, and the last frontend
        within 60 s and 50 ms for each. Skipped where it is not asked for, and where no Service address leads anywhere.
    Blind spots
        All frontends lead to one endpoint: what many endpoints a Service cost is not in it, nor what a change costs
        while there are so many.
        Of two address families the first one alone is measured.
    Fix
        kube-proxy's mode: nftables (or ipvs) in the place of iptables.
    References
        KEP-3866; kubernetes pkg/proxy/iptables. In iptables mode the position of a rule depends on names, so that the last frontend
        made is not always the last in the list; a pod on the endpoint's node connects within it.
    """
    verdict(service.scale(ScaleRecord.from_document(node.document("scale")), node.facts, expect.service, expect.latency, cluster))
