"""Throughput through a Service against that of the same pods without one."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ThroughputExpectation
from pytest_k8snet.judge import service
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.throughput import ThroughputRecord
from tests.unit.judge.builder import document, facts, outcome
from tests.unit.judge.test_service import CLUSTER, NO_PROXY, NOBODY, WITHOUT
from tests.unit.judge.test_throughput import take, takes
from tests.unit.judge.test_throughput_processors import BUSY, IDLE

EXPECT = ThroughputExpectation()
RULE = "want at least 0.85 (built-in)"
HOW = "(iperf3)"


def through(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"error": None, "absent": None, "address": "10.96.1.2", "port": 80, "takes": [*found], **more}


def judged(service_values: Any, *pods: float, others: list[Document] | None = None, **values: Any) -> Judgement:
    direct = [take("host", 45), *(take("pod", mbit) for mbit in pods or (45,)), take("host", 45)]
    content = takes(45, 45, 45, **{"takes": direct, "service": service_values, **values})
    record = ThroughputRecord.from_document(document("throughput", "node-1:node-2", content))
    return service.throughput(record, facts("node-1"), CLUSTER, EXPECT, lambda: others or [])


TOLD = "node-1:node-2: through 10.96.1.2 port 80"


@pytest.mark.parametrize(
    ("found", "pods", "verdict", "message"),
    [
        pytest.param(through(take("pod", 44)), (45,), "pass", "", id="healthy"),
        pytest.param(through(take("pod", 9), take("pod", 30), take("pod", 40)), (45,), "pass", "", id="the-best-take-counts"),
        pytest.param(
            through(take("pod", 9), take("pod", 9.2), take("pod", 9.1)),
            (45, 44),
            "fail",
            f"{TOLD} 9 Mbit/s and 9.2 Mbit/s and 9.1 Mbit/s, directly 45 Mbit/s and 44 Mbit/s: 0.20 of it, {RULE} {HOW}",
            id="slower",
        ),
        pytest.param(
            through(take("pod", 30)),
            (45, 31),
            "inconclusive",
            f"{TOLD} 30 Mbit/s, directly 45 Mbit/s and 31 Mbit/s: the direct takes differ too much to tell, {RULE}",
            id="direct-takes-differ",
        ),
        pytest.param(
            through(take("pod", 30, processors={"source": IDLE, "target": BUSY})),
            (45,),
            "inconclusive",
            f"{TOLD} 30 Mbit/s, directly 45 Mbit/s: node-2's processors were 95% busy during the pod take, "
            f"so 0.67 carries no verdict, {RULE}",
            id="busy-node",
        ),
        pytest.param(
            through(take("pod", None, error="iperf3: the server has terminated")),
            (45,),
            "error",
            f"{TOLD}: iperf3: the server has terminated {HOW}",
            id="went-wrong",
        ),
        pytest.param(
            through(take("pod", None, error="iperf3: unable to connect to server: timed out")),
            (45,),
            "skip",
            "no connection through the Service (iperf3: unable to connect to server: timed out): NET-SERVICE-001 judges that",
            id="no-connection",
        ),
        pytest.param(
            through(error="Service k8snet-1/probe-1 could not be made: quota"),
            (45,),
            "error",
            "node-1:node-2: Service k8snet-1/probe-1 could not be made: quota",
            id="no-service",
        ),
        pytest.param(
            through(absent="no Service of the run leads to a pod of node-2"),
            (45,),
            "skip",
            "no Service of the run leads to a pod of node-2",
            id="one-of-many-nodes",
        ),
        pytest.param(None, (45,), "skip", "nothing was sent through a Service", id="nobody-asked"),
    ],
)
def test_through_a_service(found: Any, pods: tuple[float, ...], verdict: str, message: str) -> None:
    assert outcome(judged(found, *pods)) == (verdict, message)


def test_takes_that_went_wrong_before_are_told_elsewhere() -> None:
    wrong = [take("host", 45), take("pod", None), take("host", 45)]
    assert outcome(judged(None, takes=wrong)) == ("skip", "a take without a Service went wrong: NET-THROUGHPUT-001 tells how")


def test_without_pods_there_is_nothing_to_judge() -> None:
    assert outcome(judged(None, pod_absent="access ssh makes no probe pods")) == ("skip", "access ssh makes no probe pods")


def test_where_no_service_leads_anywhere() -> None:
    record = ThroughputRecord.from_document(document("throughput", "node-1:node-2", takes(45, 45, 45, service=None)))
    assert outcome(service.throughput(record, WITHOUT, NO_PROXY, EXPECT)) == ("skip", NOBODY)


def test_a_weak_service_is_located() -> None:
    def other(pair: str, mbit: float) -> Document:
        source, target = pair.split(":")
        return document("throughput", pair, takes(45, 45, 45, source=source, target=target, service=through(take("pod", mbit))))

    found = judged(through(take("pod", 9)), others=[other("node-3:node-2", 9), other("node-1:node-3", 45), other("node-2:node-1", 45)])
    assert outcome(found)[1].endswith(f"{RULE}; so are all 2 pairs into node-2 that were measured, and no other: look at node-2 {HOW}")


def test_a_record_without_takes_and_without_reason_is_damaged() -> None:
    with pytest.raises(RecordError, match="no take through the Service, and no reason"):
        judged(through())
