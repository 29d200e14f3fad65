from __future__ import annotations

import pytest

from pytest_k8snet.judge import latency
from pytest_k8snet.record.latency import LatencyRecord


@pytest.mark.k8snet_check(id="NET-LATENCY-002", level="probe", title="reference points are as near as the profile says")
def test_reference_points(node, expect, verdict):
    """Connections from pods to the profile's reference points open within the time that it allows.

    Why
        Where a cluster must be near something, an exchange, a database, a hub, a route over another country or a proxy in
        between costs every request; so does a node that was placed in another region.
    How it is measured
        Seven TCP connections from the node's probe pod to each point, one after the other, opened and closed at once. Names are
        resolved before. No address is contacted that the profile does not name.
    Expected
        p50 at most max_p50_ms of the point, where at least half of the connections open; fewer that do not are told. Skipped
        where no profile has latency.points.
    Blind spots
        A handshake, not an exchange of data: a proxy or firewall that answers it in the point's stead is what is timed.
    Fix
        `mtr` to the point from the node, the provider's routes, the egress gateway or proxy that pods leave by.
    References
        docs/profiles.md.
    """
    verdict(latency.reference_points(LatencyRecord.from_document(node.document("latency")), expect.latency))
