"""What real labs gave of packets between pods, by the judges alone: each fault shows on its node, at the right place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.expect.model import EncapsulationExpectation, ReachExpectation, Wanted
from pytest_k8snet.judge import encapsulation, loss
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.store import RunFolder
from pytest_k8snet.record.wire import WireRecord

RECORDINGS = Path(__file__).parents[2] / "recordings"
NODES = ("node-1", "node-2", "node-3")
NATIVE = EncapsulationExpectation(kind=Wanted("none", "profile native.yaml:3"))


def no_facts() -> NodeFacts:
    raise AssertionError("nothing is asked of subnets")


def messages(recording: str) -> dict[tuple[str, str], str]:
    """Return of every node and check that is not green what it says."""
    folder = RunFolder(RECORDINGS / recording)
    found = {}
    for node in NODES:
        document = folder.get("wire", node)
        assert document is not None
        record = WireRecord.from_document(document)
        assert len(record.crossings) == len(NODES) - 1
        judged: dict[str, Judgement] = {
            "NET-ENCAP-004": encapsulation.on_the_wire(record, NATIVE, {}, no_facts),
            "NET-LOSS-001": loss.silent_loss(record, ReachExpectation()),
        }
        found.update({(check, node): judgement.message for check, judgement in judged.items() if judgement.verdict != "pass"})
    return found


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        (
            "ipvs-faults-network",
            {
                (
                    "NET-ENCAP-004",
                    "node-2",
                ): "packets to the pod on node-3 cross inside VXLAN (UDP port 8472): 1000 of 1000, want as they are",
            },
        ),
        (
            "ipvs-faults-crossing",
            {
                (
                    "NET-ENCAP-004",
                    "node-1",
                ): "packets to the pod on node-2 cross inside VXLAN (UDP port 31999): 1000 of 1000, want as they are",
                ("NET-ENCAP-004", "node-2"): "packets to the pod on node-3 come from 10.199.0.12 and not from the pod's own ",
                ("NET-LOSS-001", "node-3"): "40 on node-1 behind its uplink (counters that moved there: TcpExt.IPReversePathFilter +40",
            },
        ),
        (
            "ipvs-faults-lost",
            {
                (
                    "NET-ENCAP-004",
                    "node-1",
                ): "of 1000 sent 20 were not seen at the uplink of node-1, of 980 delivered 0 not at ",
                ("NET-LOSS-001", "node-1"): "(2 %), want 0 % at most (built-in): 40 on node-1 before its uplink eth0",
                ("NET-LOSS-001", "node-2"): "(2 %), want 0 % at most (built-in): 40 on node-3 behind its uplink",
                ("NET-LOSS-001", "node-3"): "(2.3 %), want 0 % at most (built-in): 46 between the uplinks of node-3 and node-1",
            },
        ),
    ],
)
def test_recorded(recording: str, expected: dict[tuple[str, str], str]) -> None:
    found = messages(recording)
    assert found.keys() == expected.keys()
    for case, text in expected.items():
        assert text in found[case]
