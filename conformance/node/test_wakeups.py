from __future__ import annotations

import pytest

from pytest_k8snet.judge import node
from pytest_k8snet.record.wakeups import WakeupsRecord


@pytest.mark.k8snet_check(id="NET-NODE-006", level="probe", title="nodes wake up in time")
def test_wakeups(k8snet_node, documents, expect, verdict):
    """A node that sleeps a millisecond wakes up a millisecond later, and not when something else lets it.

    Why
        What keeps a node's processors, a neighbour on the same hypervisor or a greedy program beside the pods, keeps packets
        waiting as well: they are late and arrive in bursts. Steal is not told by every hypervisor; a clock tells.
    How it is measured
        For one second the node sleeps 1 ms again and again and looks how late it wakes. Wake-ups that come 10 ms or more too
        late are gaps; where they make more than 2 % of the time, it is taken again 1, 3 and 6 s later: the best take counts. The
        processors' time by use, steal among it, is read before and after.
    Expected
        Less than node.late of the profile (0.1) of the time in gaps; from a quarter of that on it is advice. Without a profile's
        node.late, more is advice as well where it is at most three times what is usual among the other nodes: then no node is
        the odd one, and what they all run on is short of processors.
    Blind spots
        One thread for one second: a processor that it did not run on may be late, and so may the node in the next
        minute.
    Fix
        `top` and `pidstat` on the node; CPU limits and nice values of what runs there; another host or machine type when steal
        is high (NET-NODE-001), or when all nodes of one host show it.
    References
        cyclictest(8), which measures the same; linux Documentation/filesystems/proc (steal).
    """
    record = WakeupsRecord.from_document(k8snet_node.document("wakeups"))
    verdict(node.wakeups(record, documents("wakeups"), expect.node))
